"""Turn the messages of OpenAI's chat completions into those of a Chat.

Messages up to the model's last turn are history: parts of unknown types give their text, or nothing. It never knows
the model's chat template.
"""

from __future__ import annotations

from typing import Any

from ...errors import BadRequest
from ...protocol.request import Image, Message
from .. import images
from ..answer import Record
from ..content import joined
from ..fields import Fields
from ..history import as_text, result_text, text_in, tool_call
from ..text_files import attached_text
from ..tools import function_of
from ..turns import in_turns
from .custom_tools import CUSTOM
from .parameters import go_type

_CONTENT = "invalid message content type"
_FORMAT = "invalid message format"
# The types of parts that vLLM's server reads in a chat, too, and the field of each that has the text
# (`vllm/renderers/chat_utils.py`). Clients that mix OpenAI's APIs send them.
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
IMAGE_PARTS = ("image_url", "input_image")
# Where the thoughts of an earlier turn stand; the last two are lists, OpenRouter's and LiteLLM's.
THOUGHTS = ("reasoning", "reasoning_content", "reasoning_details", "thinking_blocks")


def parse_messages(fields: Fields) -> list[Message]:
    """Return the messages. Raise BadRequest."""
    messages = fields.children("messages", "[]openai.Message", "openai.Message")
    if not messages:
        raise BadRequest("[] is too short - 'messages'")
    history = 1 + max((place for place, each in enumerate(messages) if each.get("role") == "assistant"), default=-1)
    called: dict[str, str] = {}
    return [_message(each, place, place < history, called) for place, each in enumerate(in_turns(messages))]


def _message(fields: Fields, place: int, is_history: bool, called: dict[str, str]) -> Message:
    """Return one message. `called` collects the names of the called tools, by the ids of the calls."""
    role = fields.string("role").lower()
    is_result = role in ("tool", "function")
    content = _content(fields, f"messages[{place}].content", is_history or role != "user", is_result)
    if is_result:
        call_id = as_text(fields.get("tool_call_id"))
        name = as_text(fields.get("name")) or called.get(call_id, "")
        return Message("tool", content, tool_name=name, tool_call_id=call_id)
    calls = _calls(fields)
    called.update((call["id"], call["function"]["name"]) for call in calls)
    thinking = next((text for name in THOUGHTS if (text := _thoughts(fields.get(name)))), "")
    # Chat templates know the older of OpenAI's two names.
    role = "system" if role == "developer" else role
    return Message(role, content, thinking, calls, name=_author(fields.get("name")))


def _author(value: Any) -> str:
    """Return the name of a message's author. vLLM's server ignores one that is not a string, too."""
    return value if isinstance(value, str) else ""


def _content(fields: Fields, place: str, is_history: bool, is_result: bool = False) -> str | list[str | Image]:
    value = fields.get("content")
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [_part(part, f"{place}[{index}]", is_history, is_result) for index, part in enumerate(in_turns(value))]
        return joined([part for part in parts if not (is_history and part == "")])
    if is_history:
        return as_text(value) or as_text(fields.get("refusal"))
    raise BadRequest(f"{_CONTENT}: {go_type(value)}", param=place)


def _part(part: Any, place: str, is_history: bool, is_result: bool) -> str | Image:
    """Return a part of a content, empty if it has nothing to read. Raise BadRequest if it is new and unreadable."""
    if isinstance(part, str):
        return part
    fields = part if isinstance(part, dict) else {}
    kind = fields.get("type") or next((name for name in ("text", "image_url") if name in fields), None)
    if isinstance(kind, str) and isinstance(text := fields.get(TEXT_PARTS.get(kind)), str):
        return text
    if kind in IMAGE_PARTS and (image := _image(fields, place, is_history)):
        return image
    if kind == "file" and (attached := attached_text(fields, "" if is_history else place)) is not None:
        return attached
    if is_history:
        return result_text(part) if is_result else text_in(part)
    if kind == "input_audio":
        raise BadRequest(f"audio input is not supported: {place}", param=place)
    raise BadRequest(f"{_FORMAT}: {place} {_found(part, kind)}", param=place)


def _image(part: Record, place: str, is_history: bool) -> str | Image:
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    try:
        if not isinstance(url, str):
            raise BadRequest(f"{_FORMAT}: {place}.image_url has no url")
        return images.from_url(url)
    except BadRequest as error:
        if is_history:
            return ""
        raise BadRequest(error.message, param=place) from None


def _thoughts(value: Any) -> str:
    """Return thoughts that are a text, or a list of blocks of it."""
    if isinstance(value, list):
        blocks = [each for each in in_turns(value) if isinstance(each, dict)]
        return "".join(as_text(each.get("text") or each.get("thinking")) for each in blocks)
    return as_text(value)


def _found(part: Any, kind: Any) -> str:
    """Return the difference between a part and a valid one, for an error."""
    if not isinstance(part, dict):
        return f"is a {go_type(part)}; it must be an object with a type"
    if kind == "text":
        return 'has the type "text" and no text'
    return f'has the type {as_text(kind) or "null"!r}; "text" and "image_url" are supported'


def _calls(fields: Fields) -> list[Record]:
    """Return the calls of an earlier turn, in the newer form or in the older, `function_call`."""
    value, older = fields.get("tool_calls"), fields.get("function_call")
    calls = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    if not calls and isinstance(older, dict):
        calls = [{"function": older}]
    return [_call(each) for each in in_turns(calls)]


def _call(call: Record) -> Record:
    kind = CUSTOM if call.get("type") == CUSTOM else "function"
    function = function_of(call, kind)
    function = function if isinstance(function, dict) else {}
    arguments = {"input": as_text(function.get("input"))} if kind == CUSTOM else function.get("arguments")
    return tool_call(as_text(call.get("id")), as_text(function.get("name")), arguments)
