"""Turn the input items of OpenAI's Responses API into messages. Its reference lists the types of items (`input`).

Items up to the model's last turn are history: those of unknown types give their text, or nothing. It never knows the
model's chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from ...errors import BadRequest
from ...protocol.request import Image, Message
from .. import images
from ..answer import Record
from ..content import joined
from ..fields import MISSING, Fields
from ..history import as_text, is_opaque, result_text, text_in, tool_call
from ..text_files import attached_text
from ..tools import qualified
from ..turns import in_turns
from .responses_tools import KNOWN_TOOLS

STRUCT = "ResponsesRequest"
ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
CALLS = ("function_call", "custom_tool_call")
# Items that hold nothing for the model. `additional_tools` and `configuration_update` are read elsewhere or ignored.
SILENT_ITEMS = (
    "additional_tools", "compaction_trigger", "configuration_update", "image_generation_call", "mcp_list_tools",
    "web_search_call",
)  # fmt: skip


def parse_items(fields: Fields) -> list[Record]:
    """Return the items of the input. A string is one message of the user. Raise BadRequest."""
    value = fields.get("input")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is not None and not isinstance(value, list):
        raise BadRequest("input must be a string or array", param="input", code="invalid_type")
    fields.children("input", "[]Item", "Item")
    return value or []


def parse_conversation(fields: Fields, items: list[Record], first: int) -> list[Message]:
    """Return the instructions and the items. The items of one answer (thinking, text, calls) are one message.

    `first` is the place of the first item in the input. Raise a BadRequest that names an item by its place.
    """
    messages = [Message("system", text)] if (text := fields.string("instructions")) else []
    reader = _ItemReader(_history_length(items))
    for index, item in enumerate(in_turns(items)):
        try:
            messages += reader.read(index, Fields(item, STRUCT, "input."))
        except BadRequest as error:
            place = f"input[{first + index}]"
            inside = (error.param or "").removeprefix("input.")
            param = f"{place}.{inside}" if inside else place
            raise BadRequest(f"{place}: {error.message}", param=param, code=error.code) from None
    turns: list[Message] = []
    for role, group in groupby(messages, attrgetter("role")):
        run = list(group)
        turns += [_joined(run)] if role in ("assistant", "system") else run
    return turns


def item_type(item: Fields, is_history: bool = False) -> str:
    """Return the type of an item. A message may leave it out, and so may a reference.

    An item of the history may leave it out, too, and has an empty type then. Raise BadRequest for others.
    """
    kind = item.get("type")
    if isinstance(kind, str) and kind:
        return kind
    if item.get("role"):
        return "message"
    if _string(item, "id") and item.get("content") is None:
        return "item_reference"
    if is_history:
        return ""
    raise BadRequest("input item missing required 'type' field")


class _ItemReader:
    """Reads items one after the other. The first `history` of them are earlier turns."""

    def __init__(self, history: int) -> None:
        self._history = history
        # The names of the called tools, by the ids of the calls and of their items.
        self._called: dict[str, str] = {}

    def read(self, index: int, item: Fields) -> Iterator[Message]:
        """Yield the message of an item, if it has one."""
        is_history = index < self._history
        kind = item_type(item, is_history)
        if kind == "message":
            yield _message(item, is_history)
        elif kind == "reasoning":
            yield Message("assistant", thinking=_reasoning(item))
        elif kind == "item_reference":
            raise BadRequest(_unresolved(item))
        elif kind.endswith(("_call_output", "_search_output")):
            yield self._output(kind, item)
        elif kind in CALLS or (kind.endswith("_call") and item.get("call_id")):
            yield self._call(kind, item)
        elif kind not in SILENT_ITEMS and (text := text_in(_readable(item))):
            role = item.get("role")
            # Codex hands the task of an agent to it in this item, also as `encrypted_content` that is plain text.
            others = "user" if kind == "agent_message" else "assistant"
            yield Message(_template_role(role) if role in ROLES else others, text)

    def _call(self, kind: str, item: Fields) -> Message:
        call_id, name = _string(item, "call_id"), _string(item, "name") or kind.removesuffix("_call")
        name = qualified(name, _string(item, "namespace"))
        for key in (call_id, _string(item, "id")):
            self._called[key] = name
        return Message("assistant", tool_calls=[tool_call(call_id, name, _arguments(kind, item))])

    def _output(self, kind: str, item: Fields) -> Message:
        call_id = _string(item, "call_id") or _string(item, "id")
        content: str | list[str | Image]
        if kind == "tool_search_output":
            content = as_text(item.get("tools"))
        elif kind == "apply_patch_call_output":
            content = "\n".join(text for text in (_string(item, "status"), as_text(item.get("output"))) if text)
        else:
            content = _output_content(item.get("output"))
        return Message("tool", content, tool_name=self._called.get(call_id, ""), tool_call_id=call_id)


def _history_length(items: list[Record]) -> int:
    """Return how many items there are up to the model's last one, that one included."""
    for index in range(len(items) - 1, -1, -1):
        item = {name.lower(): value for name, value in items[index].items()}
        kind = item.get("type") or "message"
        if item.get("role") == "assistant" or (
            isinstance(kind, str) and (kind == "reasoning" or kind.endswith("_call"))
        ):
            return index + 1
    return 0


def _message(item: Fields, is_history: bool) -> Message:
    role = item.get("role")
    if role not in ROLES and is_history:
        # Templates know no more roles, and the text is all that there is to read.
        role = "user"
    if role not in ROLES:
        role = item.string("role")
        raise BadRequest(f'invalid role "{role}": must be "user", "assistant", "system" or "developer"')
    return Message(_template_role(role), _content(item, is_history or role == "assistant"))


def _template_role(role: str) -> str:
    """Return the role for chat templates. They have none for a developer, or treat it as the system."""
    return "system" if role == "developer" else role


def _content(item: Fields, is_history: bool) -> str | list[str | Image]:
    value = item.get("content")
    if isinstance(value, str) or (is_history and not isinstance(value, list)):
        return as_text(value)
    if not is_history:
        item.children("content", "[]Part", "Part")
    parts = [_part(part, f"content[{index}]", is_history) for index, part in enumerate(in_turns(value or []))]
    return joined([part for part in parts if part])


def _output_content(value: Any) -> str | list[str | Image]:
    """Return the result of a tool: a text, or parts of text and images."""
    parts = [value] if isinstance(value, dict) and "type" in value else value
    if not isinstance(parts, list):
        return as_text(value)
    read = (_output_part(each) for each in in_turns(parts))
    return joined([part for part in read if part])


def _output_part(value: Any) -> str | Image:
    image = _part(value, "output", is_history=True) if isinstance(value, dict) and "image_url" in value else ""
    return image or result_text(value)


def _part(value: Any, place: str, is_history: bool) -> str | Image:
    """Return a part of a content, empty if it has nothing to read. Raise BadRequest if it is new and unreadable."""
    part = Fields(value if isinstance(value, dict) else {"type": "text", "text": value}, STRUCT)
    kind = part.get("type")
    if kind == "input_file" and (text := attached_text(part.values, "" if is_history else place)) is not None:
        return text
    if is_history:
        return _history_part(part, kind)
    if kind in TEXT_PARTS:
        if part.get("text") is None:
            raise BadRequest(f"{place}.text is required", param=f"{place}.text", code=MISSING)
        return part.string("text")
    if kind == "refusal":
        return part.string("refusal")
    if kind == "input_image" and (url := _image_url(part, place)):
        return _image(url, place)
    if kind in ("input_file", "input_image"):
        raise BadRequest(f"file inputs are not currently supported: {place} is an {kind} with a file", param=place)
    raise BadRequest(f"{place}: unknown content type: {kind}", param=place)


def _image_url(part: Fields, place: str) -> str:
    """Return the URL of an image, empty without one. Some clients write it as OpenAI's chats have it, in an object."""
    value: Any = part.get("image_url")
    url = value.get("url") if isinstance(value, dict) else value
    if url is not None and not isinstance(url, str):
        raise BadRequest(f"{place}.image_url must be a string", param=f"{place}.image_url", code="invalid_type")
    return url or ""


def _image(url: str, place: str) -> Image:
    """Return the image in a data URL. Raise BadRequest in Ollama's words, with the place as the parameter."""
    try:
        return images.from_url(url)
    except BadRequest as error:
        raise BadRequest(error.message, param=place) from None


def _history_part(part: Fields, kind: Any) -> str | Image:
    if part.get("image_url") is not None:
        try:
            return images.from_url(_image_url(part, ""))
        except BadRequest:
            return ""
    return as_text(part.get("text")) if kind in TEXT_PARTS else text_in(part.values)


def _reasoning(item: Fields) -> str:
    """Return the thinking. The `encrypted_content` that this server writes is plain text, as in Ollama."""
    written = item.get("encrypted_content")
    if isinstance(written, str) and written and not is_opaque(written):
        return written
    return text_in(item.get("content")) or text_in(item.get("summary"))


def _arguments(kind: str, item: Fields) -> Any:
    """Return the arguments of a call. Each type of item has another field for them."""
    if kind == "custom_tool_call":
        return {"input": as_text(item.get("input"))}
    known = kind.removesuffix("_call") in KNOWN_TOOLS
    value = item.get("action") or item.get("operation") if known else None
    if isinstance(value, dict):
        shell = {name: each for name, each in value.items() if each is not None}
        return {name: each for name, each in shell.items() if name != "type" or kind == "apply_patch_call"}
    for name in ("arguments", "input", "action", "actions", "code"):
        if item.get(name) is not None:
            return item.get(name)
    return None


def _readable(item: Fields) -> Record:
    return {name: value for name, value in item.values.items() if name not in ("type", "role", "id", "status")}


def _string(item: Fields, name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""


def _unresolved(item: Fields) -> str:
    return (
        f'the item "{_string(item, "id")}" is not stored here: send "store": true with each request, or let the client '
        "send its items (in the AI SDK: providerOptions: { openai: { store: false } })"
    )


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
