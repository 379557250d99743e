"""Turn the turns of Anthropic's Messages API into messages. Its reference lists the types of blocks (`messages`).

Turns up to the model's last one are history: their blocks of unknown types give their text, or nothing. It never knows
the model's chat template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import BadRequest
from ...protocol.request import Image, Message
from .. import images
from ..content import joined
from ..fields import MISSING, Fields
from ..history import as_text, result_text, text_in, tool_call
from ..turns import in_turns

# Claude Code's first system block. It changes with every request, so that no prompt would be found in the cache. vLLM's
# server drops it too.
BILLING = "x-anthropic-billing-header"
# Blocks that only Anthropic's own servers write and read.
SILENT_BLOCKS = ("redacted_thinking", "fallback", "tool_addition", "tool_removal")

_STRUCT = "MessagesRequest"


def parse_turns(fields: Fields) -> list[Message]:
    """Return the system prompt and the turns. Raise BadRequest."""
    turns = fields.children("messages", "[]MessageParam", "MessageParam")
    if not turns:
        raise BadRequest("messages is required")
    history = 1 + max((place for place, each in enumerate(turns) if each.get("role") == "assistant"), default=-1)
    system = _text(fields, "system")
    messages = [Message("system", system)] if system else []
    called: dict[str, str] = {}
    for place, turn in enumerate(in_turns(turns)):
        messages += _messages(turn, f"messages[{place}].content", place < history, called)
    if not messages:
        raise BadRequest("messages: none of them has content that the model can read")
    return messages


def all_blocks(fields: Fields) -> Iterator[Any]:
    """Yield each block of the turns, and those inside the results of tools."""
    for turn in fields.children("messages", "[]MessageParam", "MessageParam"):
        content = turn.get("content")
        for block in in_turns(content if isinstance(content, list) else []):
            yield block
            inner = block.get("content") if isinstance(block, dict) else None
            yield from inner if isinstance(inner, list) else []


def _messages(turn: Fields, place: str, is_history: bool, called: dict[str, str]) -> Iterator[Message]:
    """Yield the messages of one turn. Each result of a tool is a message. `called` collects the names of the tools."""
    role = as_text(turn.get("role"))
    if role in ("system", "developer"):
        if text := _text(turn, "content", is_history):
            yield Message("system", text)
    elif role == "assistant":
        yield _assistant(_blocks(turn, "content", is_history), called)
    elif role == "user" or is_history:
        yield from _user(_blocks(turn, "content", is_history), place, is_history, called)
    else:
        message = f'invalid role "{role}": must be "user", "assistant" or "system"'
        raise BadRequest(message, param=f"{turn.place}.role")


def _assistant(blocks: list[Fields], called: dict[str, str]) -> Message:
    """Return a turn of the model. Blocks of Anthropic's own servers give their text."""
    texts, thoughts, calls = [], [], []
    for block in in_turns(blocks):
        kind = block.get("type")
        if kind == "thinking":
            thoughts.append(as_text(block.get("thinking")))
        elif kind == "tool_use":
            call_id, name = as_text(block.get("id")), as_text(block.get("name"))
            called[call_id] = name
            calls.append(tool_call(call_id, name, block.get("input")))
        elif kind == "text":
            texts.append(as_text(block.get("text")))
        elif kind not in SILENT_BLOCKS and (text := text_in(block.values)):
            texts.append(f"{text}\n")
    return Message("assistant", "".join(texts), "".join(thoughts), calls)


def _user(blocks: list[Fields], place: str, is_history: bool, called: dict[str, str]) -> Iterator[Message]:
    own = []
    for index, block in enumerate(in_turns(blocks)):
        kind = block.get("type")
        if isinstance(kind, str) and kind.endswith("tool_result"):
            call_id = as_text(block.get("tool_use_id"))
            yield Message("tool", _result(block), tool_name=called.get(call_id, ""), tool_call_id=call_id)
        elif kind not in SILENT_BLOCKS:
            own.append(_part(block, f"{place}[{index}]", is_history))
    content = joined([part for part in own if part or not is_history])
    if own and (content or not is_history):
        yield Message("user", content)


def _result(block: Fields) -> str | list[str | Image]:
    """Return the result of a tool: a string, or parts. A client may send a string, blocks, or any other value."""
    content = block.get("content")
    parts = content if isinstance(content, list) else [content]
    read = [part for part in (_result_part(each) for each in in_turns(parts)) if part]
    # Templates have no mark for a failure, and what a failed tool says mostly tells it.
    return joined(read) if read or block.get("is_error") is not True else "the tool failed"


def _result_part(part: Any) -> str | Image:
    if isinstance(part, dict):
        block = Fields(part, _STRUCT)
        if block.get("type") in ("image", "tool_reference") and (read := _history_part(block)):
            return read
    return result_text(part)


def _part(block: Fields, place: str, is_history: bool) -> str | Image:
    """Return a part of a content, empty if the model can't read it. Raise BadRequest for such a part in a new turn."""
    if is_history:
        return _history_part(block)
    kind = block.string("type")
    if kind == "text":
        if block.get("text") is None:
            raise BadRequest(f"{place}.text is required", param=f"{place}.text", code=MISSING)
        return block.string("text")
    if kind == "search_result":
        return text_in(block.values)
    source = block.child("source", "anthropic.ImageSource")
    if kind == "document" and source.string("type") in ("text", "content"):
        # With its title and its context, which Anthropic's guide to citations promises to the model.
        return text_in(block.values)
    if kind == "document":
        raise BadRequest(f'content block type "document" is not supported: {place} is not a plain text')
    if kind != "image":
        raise BadRequest(f'content block type "{kind}" is not supported: {place}')
    if source.string("type") != "base64":
        message = f"invalid image source type: {source.string('type')}. Only base64 images are supported."
        raise BadRequest(f"{message} ({place})")
    return images.decode(source.string("data"), f"{images.INVALID_BASE64} ({place})")


def _history_part(block: Fields) -> str | Image:
    source: Any = block.get("source")
    if block.get("type") == "image" and isinstance(source, dict):
        try:
            return images.decode(as_text(source.get("data")))
        except BadRequest:
            return ""
    if block.get("type") == "tool_reference":
        return f"The tool {as_text(block.get('tool_name'))} can be called now."
    return text_in(block.values)


def _text(fields: Fields, name: str, is_history: bool = False) -> str:
    blocks = _blocks(fields, name, is_history)
    for block in blocks if not is_history else []:
        if (kind := block.get("type")) in ("image", "document"):
            message = f'{block.place}: a system prompt is text; send a block of type "{kind}" in a message of the user'
            raise BadRequest(message, param=block.place)
    texts = [as_text(block.get("text")) for block in blocks]
    return "\n\n".join(text for text in texts if text and not text.startswith(BILLING))


def _blocks(fields: Fields, name: str, is_history: bool = False) -> list[Fields]:
    """Return the blocks of a content. A string is one block of text, and in the history any other value is, too."""
    content = fields.get(name)
    if isinstance(content, str):
        return [_text_block(content)]
    if is_history:
        values = content if isinstance(content, list) else [content]
        return [
            Fields(each, _STRUCT) if isinstance(each, dict) else _text_block(as_text(each)) for each in in_turns(values)
        ]
    return fields.children(name, "[]ContentBlock", "ContentBlock")


def _text_block(text: str) -> Fields:
    return Fields({"type": "text", "text": text}, _STRUCT)
