"""Conversations in the orders and roles that chat templates take.

Many templates raise an error for a system message that is not the first, for two turns of the user in a row, or for
roles that they don't know. In: the messages of a request. Out: the same text in forms that more templates take. It
never knows which template is meant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from ...errors import BadRequest
from ...protocol.request import Image, Message

T = TypeVar("T")
Form = Callable[[list[Message]], list[Message]]

_SYSTEM = ("system", "developer")
_ROLES = ("system", "user", "assistant", "tool")
# A conversation with more unknown roles than these is not looked at role by role.
MOST_ROLES = 4
# Mistral's templates take no other ids of calls.
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


def as_sent(messages: list[Message]) -> list[Message]:
    """Return the conversation as it is."""
    return messages


def system_first(messages: list[Message]) -> list[Message]:
    """Join all system messages into the first message. Later ones are so moved to the front."""
    system = [message for message in messages if message.role in _SYSTEM]
    others = [message for message in messages if message.role not in _SYSTEM]
    return [*([_joined("system", system)] if system else []), *others]


def alternating(messages: list[Message]) -> list[Message]:
    """Make user and assistant take turns: join runs of one role, begin with the user, and rename unknown roles."""
    known = [_renamed(message) for message in system_first(messages)]
    turns: list[Message] = []
    for role, group in groupby(known, attrgetter("role")):
        run = list(group)
        turns += run if role == "tool" else [_joined(role, run)]
    opening = 1 if turns and turns[0].role == "system" else 0
    if turns[opening:] and turns[opening].role == "assistant":
        turns.insert(opening, Message("user"))
    return turns


def without_system(messages: list[Message]) -> list[Message]:
    """Put the system's text before the first turn of the user. Gemma's templates, for one, have no system."""
    turns = alternating(messages)
    if not turns or turns[0].role != "system":
        return turns
    first = turns[1] if turns[1:] and turns[1].role == "user" else Message("user")
    return [_joined("user", [turns[0], first]), *(turns[2:] if first in turns[1:2] else turns[1:])]


def plain(messages: list[Message]) -> list[Message]:
    """Write the calls of tools and their results as text, for templates that have no tools."""
    return without_system([_as_text(message) for message in messages])


# From the one that changes nothing to the one that changes most.
FORMS: tuple[Form, ...] = (as_sent, system_first, alternating, without_system, plain)


def without_old_images(messages: list[Message]) -> list[Message]:
    """Replace the images before the user's last turn, and those of tools, by a word, for a model that can't see.

    The client sends its history with every request, so that refusing an old image would end the conversation.
    """
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    return [message if place == last else _blind(message) for place, message in enumerate(messages)]


class FormFinder(Generic[T]):
    """Renders conversations of one request in the first form that its template takes.

    A request may be rendered several times, with fewer messages each time; the form that was taken once is tried first.
    Many templates leave out the messages of a role that they don't know. Those are shown as messages of the user.
    """

    def __init__(self, render: Callable[[list[Message]], Awaitable[T]]) -> None:
        self._render = render
        self._first = 0
        # By the role: whether the template leaves its messages out.
        self._ignored: dict[str, bool] = {}

    async def __call__(self, messages: list[Message]) -> T:
        """Return what `render` makes of the messages. Raise its first BadRequest if it refuses every form."""
        messages = await self._with_known_roles(messages)
        refusal: BadRequest | None = None
        tried: list[Message] | None = None
        for index in range(self._first, len(FORMS)):
            form = FORMS[index](messages)
            if form == tried:
                continue
            tried = form
            try:
                rendered = await self._render(form)
            except BadRequest as error:
                refusal = refusal or error
                continue
            self._first = index
            return rendered
        raise refusal or BadRequest("the prompt is empty")

    async def _with_known_roles(self, messages: list[Message]) -> list[Message]:
        unknown = {message.role for message in messages}.difference(_ROLES)
        for role in unknown.difference(self._ignored):
            self._ignored[role] = len(unknown) > MOST_ROLES or await self._ignores(role)
        return [_heard(message) if self._ignored.get(message.role) else message for message in messages]

    async def _ignores(self, role: str) -> bool:
        """Return whether the text of a message of this role makes no difference."""
        try:
            with_text, without = [await self._render([Message(role, text), _PROBE]) for text in ("text", "")]
        except BadRequest:
            return False
        return with_text == without


_PROBE = Message("user", "question")


def _heard(message: Message) -> Message:
    """Return a message with a role that every template knows."""
    return msgspec.structs.replace(message, role="system" if message.role in _SYSTEM else "user")


def _joined(role: str, messages: list[Message]) -> Message:
    """Join the messages, an empty line between their texts."""
    if len(messages) == 1:
        return msgspec.structs.replace(messages[0], role=role)
    parts: list[str | Image] = []
    for message in messages:
        for part in message.content if isinstance(message.content, list) else [message.content]:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] = "\n\n".join(text for text in (parts[-1], part) if text)
            elif part != "" or not parts:
                parts.append(part)
    content = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts
    thinking = "\n\n".join(message.thinking for message in messages if message.thinking)
    return Message(role, content, thinking, [call for message in messages for call in message.tool_calls])


def _blind(message: Message) -> Message:
    if isinstance(message.content, str):
        return message
    texts = [part if isinstance(part, str) else "[image]" for part in message.content]
    return msgspec.structs.replace(message, content="\n".join(texts))


def _renamed(message: Message) -> Message:
    role = message.role if message.role in _ROLES else "user"
    calls = [{**call, "id": _short(str(call.get("id", "")))} for call in message.tool_calls]
    call_id = _short(message.tool_call_id) if message.tool_call_id else ""
    return msgspec.structs.replace(message, role=role, tool_calls=calls, tool_call_id=call_id)


def _short(call_id: str) -> str:
    return call_id if _SHORT_ID.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        result = Message("user", f"Result of the tool {message.tool_name}:".replace(" :", ":"))
        return _joined("user", [result, Message("user", message.content)])
    if not message.tool_calls:
        return message
    calls = [_call_as_text(call.get("function", {})) for call in message.tool_calls]
    written = _joined(message.role, [Message(message.role, message.content), Message(message.role, "\n".join(calls))])
    return msgspec.structs.replace(written, thinking=message.thinking)


def _call_as_text(function: dict[str, Any]) -> str:
    arguments = msgspec.json.encode(function.get("arguments")).decode()
    return f"Call of the tool {function.get('name', '')}: {arguments}"
