"""Turn the input items of OpenAI's Responses API into messages. It never knows the model's chat template."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from ...errors import BadRequest
from ...protocol.request import Image, Message
from .. import images
from ..answer import Record
from ..content import joined
from ..fields import Fields
from ..json_body import parse_json
from ..tools import tool_call

TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
# Only OpenAI's own servers write these items, and they hold nothing for the model.
DROPPED_ITEMS = ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call")

STRUCT = "ResponsesRequest"


def parse_conversation(fields: Fields, items: list[Record], first: int) -> list[Message]:
    """Return the instructions and the items. The items of one answer (thinking, text, calls) are one message.

    `first` is the place of the first item in the input. Raise a BadRequest that names an item by its place.
    """
    messages = [Message("system", text)] if (text := fields.string("instructions")) else []
    called: dict[str, str] = {}
    for index, item in enumerate(items, first):
        try:
            messages += _item(Fields(item, STRUCT, "input."), called)
        except BadRequest as error:
            raise BadRequest(f"input[{index}]: {error.message}") from None
    turns: list[Message] = []
    for role, group in groupby(messages, attrgetter("role")):
        run = list(group)
        turns += [_joined(run)] if role in ("assistant", "system") else run
    return turns


def parse_items(fields: Fields) -> list[Record]:
    """Return the items of the input. A string is one message of the user. Raise BadRequest."""
    value = fields.get("input")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is not None and not isinstance(value, list):
        raise BadRequest("input must be a string or array")
    fields.children("input", "[]Item", "Item")
    return value or []


def _item(item: Fields, called: dict[str, str]) -> list[Message]:
    """Return the message of an item, if it has one. `called` collects the names of the called tools."""
    kind = item.string("type") or ("message" if item.string("role") else "")
    if kind == "message":
        return [_message(item)]
    if kind == "reasoning":
        return [Message("assistant", thinking=_reasoning(item))]
    if kind == "function_call":
        return [_function_call(item, called)]
    if kind == "function_call_output":
        call_id = item.string("call_id")
        return [Message("tool", _content(item, "output"), tool_name=called.get(call_id, ""), tool_call_id=call_id)]
    if kind in DROPPED_ITEMS:
        return []
    if not kind:
        raise BadRequest("input item missing required 'type' field")
    raise BadRequest(f'unknown input item type: "{kind}"')


def _message(item: Fields) -> Message:
    role = item.string("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise BadRequest(f'invalid role "{role}": must be "user", "assistant", "system" or "developer"')
    # Chat templates have no role for a developer, or treat it as the system.
    return Message("system" if role == "developer" else role, _content(item, "content"))


def _reasoning(item: Fields) -> str:
    """Return the thoughts. The `encrypted_content` that this server writes is plain text, as Ollama's is."""
    parts = item.children("content", "[]Part", "Part") or item.children("summary", "[]Part", "Part")
    return item.string("encrypted_content") or "\n".join(part.string("text") for part in parts)


def _function_call(item: Fields, called: dict[str, str]) -> Message:
    call_id, name = item.string("call_id"), item.string("name")
    called[call_id] = name
    try:
        arguments = parse_json((item.string("arguments") or "{}").encode(), "FunctionCall")
    except BadRequest as error:
        raise BadRequest(f"failed to parse function call arguments: {error.message}") from None
    return Message("assistant", tool_calls=[tool_call(call_id, name, arguments)])


def _joined(messages: list[Message]) -> Message:
    """Join several messages of one role."""
    parts: list[str | Image] = []
    for message in messages:
        parts += message.content if isinstance(message.content, list) else [message.content] if message.content else []
    return Message(
        messages[0].role,
        joined(parts),
        "\n".join(message.thinking for message in messages if message.thinking),
        [call for message in messages for call in message.tool_calls],
    )


def _content(item: Fields, name: str) -> str | list[str | Image]:
    content = item.get(name)
    if isinstance(content, str):
        return content
    parts = item.children(name, "[]Part", "Part")
    return joined([_part(part, f"{name}[{index}]") for index, part in enumerate(parts)])


def _part(part: Fields, place: str) -> str | Image:
    kind = part.string("type")
    if kind in TEXT_PARTS:
        return part.string("text")
    if kind == "refusal":
        return part.string("refusal")
    if kind == "input_image" and part.string("image_url"):
        return images.from_url(part.string("image_url"))
    if kind in ("input_file", "input_image"):
        raise BadRequest("file inputs are not currently supported")
    raise BadRequest(f"{place}: unknown content type: {kind}")
