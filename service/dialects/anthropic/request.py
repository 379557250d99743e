"""Turn the bodies of Anthropic's Messages API into calls. It never knows the model's chat template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import BadRequest
from ...protocol.request import Chat, Image, Message, Request, Sampling
from ...syntax.options import OLLAMA_DEFAULTS, parse_options
from .. import images
from ..answer import Record
from ..content import joined
from ..fields import Fields
from ..tools import function_tool, tool_call

# As in Ollama's `anthropic/anthropic.go`.
EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
THINKING = ("enabled", "disabled", "adaptive", "between_tools")
TOOL_CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}

# Claude Code's first system block. It changes with every request, so that no prompt would be found in the cache. vLLM's
# server drops it too.
BILLING = "x-anthropic-billing-header"

_STRUCT = "MessagesRequest"


@dataclass(frozen=True)
class MessagesCall:
    """A parsed body."""

    model: str
    request: Request
    stream: bool


def parse_messages(body: dict[str, Any]) -> MessagesCall:
    """Parse the body of `POST /v1/messages`. Raise BadRequest."""
    fields = Fields(body, _STRUCT)
    model, max_tokens = fields.model(), fields.integer("max_tokens")
    if max_tokens < 1:
        raise BadRequest("max_tokens is required and must be positive")
    chat = _chat(fields)
    request = Request(
        model, chat, _sampling(fields, max_tokens), OLLAMA_DEFAULTS, truncate=False, format=_format(fields)
    )
    return MessagesCall(model, request, fields.boolean("stream", False))


def parse_count_tokens(body: dict[str, Any]) -> MessagesCall:
    """Parse the body of `POST /v1/messages/count_tokens`. Raise BadRequest."""
    fields = Fields(body, "CountTokensRequest")
    model = fields.model()
    return MessagesCall(model, Request(model, _chat(fields), truncate=False, render_only=True), stream=False)


def _chat(fields: Fields) -> Chat:
    turns = fields.children("messages", "[]MessageParam", "MessageParam")
    if not turns:
        raise BadRequest("messages is required")
    called: dict[str, str] = {}
    system = _text(fields, "system")
    messages = [Message("system", system)] if system else []
    messages += [message for turn in turns for message in _messages(turn, called)]
    if not messages:
        raise BadRequest("messages: none of them has content that the model can read")
    tools = [_tool(each) for each in fields.children("tools", "[]Tool", "Tool")]
    return Chat(messages, tools, _think(fields), must_think=False, **_tool_choice(fields, tools))


def _messages(turn: Fields, called: dict[str, str]) -> Iterator[Message]:
    """Return the messages of one turn. Each tool result is a message. `called` collects the names of the tools."""
    role = turn.string("role")
    if role == "system":
        if text := _text(turn, "content"):
            yield Message("system", text)
    elif role == "assistant":
        yield _assistant(_blocks(turn, "content"), called)
    elif role == "user":
        yield from _user(_blocks(turn, "content"), called)
    else:
        raise BadRequest(f'invalid role "{role}": must be "user", "assistant" or "system"')


def _assistant(blocks: list[Fields], called: dict[str, str]) -> Message:
    """Return a turn of the model. As in Ollama, blocks that only Anthropic's own servers write are left out."""
    texts, thoughts, calls = [], [], []
    for block in blocks:
        kind = block.string("type")
        if kind == "text":
            texts.append(block.string("text"))
        elif kind == "thinking":
            thoughts.append(block.string("thinking"))
        elif kind == "tool_use":
            calls.append(_tool_use(block, called))
    return Message("assistant", "".join(texts), "".join(thoughts), calls)


def _tool_use(block: Fields, called: dict[str, str]) -> Record:
    for name in ("id", "name"):
        if not block.string(name):
            raise BadRequest(f"tool_use block missing required '{name}' field")
    called[block.string("id")] = block.string("name")
    return tool_call(block.string("id"), block.string("name"), block.mapping("input"))


def _user(blocks: list[Fields], called: dict[str, str]) -> Iterator[Message]:
    own = [block for block in blocks if block.string("type") != "tool_result"]
    for block in blocks:
        if block.string("type") == "tool_result":
            content, call_id = _content(_blocks(block, "content")), block.string("tool_use_id")
            yield Message("tool", content, tool_name=called.get(call_id, ""), tool_call_id=call_id)
    if own:
        yield Message("user", _content(own))


def _content(blocks: list[Fields]) -> str | list[str | Image]:
    return joined([_part(block) for block in blocks])


def _part(block: Fields) -> str | Image:
    kind = block.string("type")
    if kind == "text":
        return block.string("text")
    source = block.child("source", "anthropic.ImageSource")
    if kind == "document" and source.string("type") == "text":
        return source.string("data")
    if kind != "image":
        raise BadRequest(f'content block type "{kind}" is not supported')
    if source.string("type") != "base64":
        raise BadRequest(f"invalid image source type: {source.string('type')}. Only base64 images are supported.")
    return images.decode(source.string("data"))


def _text(fields: Fields, name: str) -> str:
    texts = [block.string("text") for block in _blocks(fields, name)]
    return "\n\n".join(text for text in texts if text and not text.startswith(BILLING))


def _blocks(fields: Fields, name: str) -> list[Fields]:
    """Return the blocks of a content. A string is one block of text."""
    content = fields.get(name)
    if isinstance(content, str):
        return [Fields({"type": "text", "text": content}, _STRUCT)]
    return fields.children(name, "[]ContentBlock", "ContentBlock")


def _tool(fields: Fields) -> Record:
    kind = fields.string("type", "custom")
    if kind != "custom":
        raise BadRequest(f'tools: "{kind}" is not supported: only tools of the client\'s own are, with an input_schema')
    return function_tool(fields, "input_schema")


def _tool_choice(fields: Fields, tools: list[Record]) -> dict[str, Any]:
    """Return the fields of a Chat for the choice of tools."""
    choice = fields.child("tool_choice", "anthropic.ToolChoice")
    kind, name = choice.string("type", "auto"), choice.string("name")
    if kind not in TOOL_CHOICES:
        raise BadRequest(f'invalid tool_choice type "{kind}": must be "auto", "any", "tool" or "none"')
    if TOOL_CHOICES[kind] == "required" and not tools:
        raise BadRequest(f'tool_choice "{kind}" needs tools')
    if kind == "tool" and name not in [tool["function"]["name"] for tool in tools]:
        raise BadRequest(f'tool_choice names "{name}", which is not among the tools')
    return {
        "tool_choice": TOOL_CHOICES[kind],
        "forced_tool": name if kind == "tool" else "",
        "parallel_tool_calls": not choice.boolean("disable_parallel_tool_use", False),
    }


def _think(fields: Fields) -> bool | str | None:
    """Return False if the client switches thinking off, else its effort. None leaves the choice to the model."""
    kind = fields.child("thinking", "anthropic.ThinkingConfig").string("type", "enabled")
    effort = fields.child("output_config", "anthropic.OutputConfig").string("effort")
    if kind not in THINKING:
        raise BadRequest(f'invalid thinking type "{kind}": must be one of {", ".join(THINKING)}')
    if effort and effort not in EFFORTS:
        raise BadRequest(f'invalid effort "{effort}": must be one of {", ".join(EFFORTS)}')
    return False if kind == "disabled" else EFFORTS.get(effort)


def _format(fields: Fields) -> dict[str, Any] | None:
    shape = fields.child("output_config", "anthropic.OutputConfig").child("format", "anthropic.Format")
    kind, schema = shape.string("type"), shape.mapping("schema")
    if kind not in ("", "json_schema"):
        raise BadRequest(f'invalid output_config.format type "{kind}": must be "json_schema"')
    if kind and not schema:
        raise BadRequest("output_config.format.schema must be a JSON schema")
    return schema or None


def _sampling(fields: Fields, max_tokens: int) -> Sampling:
    stop = fields.array("stop_sequences", "[]string")
    named = {name: fields.get(name) for name in ("temperature", "top_p", "top_k")}
    return parse_options({**named, "stop": stop, "num_predict": max_tokens})[0]
