"""Finds the script in a request to the scripted engine, and counts the words of the prompt."""

from __future__ import annotations

import json
import secrets
from typing import Any

from ..protocol.request import Chat, Infill, Message, Request, Tokens

# Around a script, where a program puts text of its own around what its user writes.
BEGIN, END = "!begin", "!end"
# Between the answers to the requests of one conversation.
NEXT = "!next"


def script_of(request: Request) -> str:
    """Return the script that answers this request.

    It is the last message or the prompt, unless a message has a script between BEGIN and END. The newest such message
    then counts, and NEXT divides its script: the first part answers the message itself, the second one the request
    that holds one turn of the assistant behind the message, and so on. The last part answers all further requests.
    """
    prompt = request.prompt
    if isinstance(prompt, Chat):
        marked = _marked(prompt.messages)
        return prompt.messages[-1].text if marked is None else marked
    if isinstance(prompt, Infill):
        return f"{prompt.prefix} {prompt.suffix}"
    if isinstance(prompt, Tokens):
        return " ".join(str(token_id) for token_id in prompt.ids)
    return prompt.text


def _marked(messages: list[Message]) -> str | None:
    turns = 0
    for message in reversed(messages):
        if message.role == "assistant":
            turns += 1
        elif BEGIN in message.text:
            script = message.text.rpartition(BEGIN)[2].partition(END)[0]
            parts = script.split(NEXT)
            return parts[min(turns, len(parts) - 1)].strip()
    return None


def prompt_words(request: Request) -> int:
    """Return how many words the whole prompt has, those of earlier turns included."""
    prompt = request.prompt
    if isinstance(prompt, Chat):
        return sum(len(message.text.split()) for message in prompt.messages)
    return len(script_of(request).split())


def text_of_role(request: Request, role: str, newest: bool = False) -> str:
    """Return the texts of a role's messages in one line, or the text of its newest message alone."""
    messages = request.prompt.messages if isinstance(request.prompt, Chat) else []
    texts = [message.text for message in messages if message.role == role]
    return " ".join(" ".join(texts[-1:] if newest else texts).split())


def scripted_call(command: str, index: int) -> dict[str, Any]:
    """Return the tool call of `NAME:ARGUMENTS`, as the parsers of the other engine make it.

    Raises ValueError when the arguments are not JSON. A space in them is written as \\u0020.
    """
    name, _, arguments = command.partition(":")
    function = {"index": index, "name": name, "arguments": json.loads(arguments or "{}")}
    return {"id": f"call_{secrets.token_hex(4)}", "function": function}
