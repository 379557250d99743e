"""Turn the bodies of Ollama's generate, chat and show routes into calls.

The fields are those of Ollama's `api/types.go`. It never knows how a request is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import msgspec

from ...errors import BadRequest, ModelNotFound
from ...protocol.request import Chat, Image, Infill, Message, Request, Text
from ...syntax.durations import parse_keep_alive
from ...syntax.names import ModelName
from ...syntax.options import OLLAMA_DEFAULTS, parse_options
from ..bounds import MAX_ALTERNATIVES
from ..fields import Fields
from ..go_base64 import decode
from ..keeping import Keeping, parse_keeping
from ..turns import in_turns

THINK_LEVELS = ("high", "medium", "low", "max")


@dataclass(frozen=True)
class OllamaCall:
    """A parsed body. Without a `request` the model is only loaded, or unloaded if `unload` is set.

    `stream` and `stream_type` are as the client sent them, for the negotiation. `keep_alive` is in seconds.
    """

    model: str
    request: Optional[Request]
    unload: bool
    keep_alive: Optional[float]
    stream: Any
    stream_type: Any
    keeping: Optional[Keeping] = None


def parse_generate(body: dict[str, Any]) -> OllamaCall:
    """Parse the body of `POST /api/generate`. Raise BadRequest, or ModelNotFound if no model is named."""
    fields = Fields(body, "GenerateRequest")
    model = fields.string("model")
    if not model:
        raise ModelNotFound("model '' not found")
    prompt, suffix = fields.string("prompt"), fields.string("suffix")
    system, template, context = fields.string("system"), fields.string("template"), fields.integers("context")
    raw = fields.boolean("raw", False)
    images = _images(fields)
    if raw and (system or template or context):
        raise BadRequest("raw mode does not support template, system, or context")
    if images and (raw or suffix or template):
        raise BadRequest("images can't go with raw, suffix or template: the model's own template has to place them")
    source: Chat | Text | Infill
    if suffix and not raw:
        source = Infill(prompt, suffix)
    elif raw:
        source = Text(prompt)
    else:
        messages = [Message("system", system)] if system else []
        messages.append(Message("user", _content(images, prompt)))
        source = Chat(messages, think=_think(fields), template=template, context=context)
    return _call(fields, model, source if prompt else None, return_context=not raw)


def parse_chat(body: dict[str, Any]) -> OllamaCall:
    """Parse the body of `POST /api/chat`. Raise BadRequest."""
    fields = Fields(body, "ChatRequest")
    model = fields.string("model")
    if not model:
        raise BadRequest("model is required")
    messages = parse_messages(fields)
    chat = Chat(messages, tools=_tools(fields), think=_think(fields))
    return _call(fields, model, chat if messages else None)


def parse_show(body: dict[str, Any]) -> tuple[str, ModelName, bool]:
    """Parse the body of `POST /api/show`: the model as the client spells it, its name, and `verbose`. Raise BadRequest.

    Older clients write `name` instead of `model`.
    """
    fields = Fields(body, "ShowRequest")
    model = fields.string("model") or fields.string("name")
    if not model:
        raise BadRequest("model is required")
    return model, ModelName.parse(model), fields.boolean("verbose", False)


def _call(fields: Fields, model: str, prompt: Chat | Text | Infill | None, return_context: bool = False) -> OllamaCall:
    ModelName.parse(model)
    options = fields.mapping("options")
    sampling, context_limit = parse_options(options)
    keep_alive = parse_keep_alive(fields.get("keep_alive"))
    logprobs = _logprobs(fields)
    truncate, shape = fields.boolean("truncate", True), _format(fields.get("format"))
    render_only = fields.boolean("_debug_render_only", False)
    request = None
    if prompt is not None:
        request = Request(
            model, prompt, sampling, OLLAMA_DEFAULTS, truncate, context_limit, shape, logprobs, return_context,
            render_only=render_only,
        )  # fmt: skip
    # Only its type is checked. vLLM has no context shift: an answer that fills the context ends.
    fields.boolean("shift", False)
    return OllamaCall(
        model,
        request,
        unload=request is None and keep_alive == 0,
        keep_alive=keep_alive,
        stream=fields.get("stream"),
        stream_type=stream_type(fields),
        keeping=parse_keeping(fields),
    )


def stream_type(fields: Fields) -> Any:
    """Return `stream_type`, which some clients spell `StreamType`. Raise BadRequest if the two differ."""
    snake, camel = fields.get("stream_type"), fields.get("streamtype")
    if snake is not None and camel is not None and snake != camel:
        raise BadRequest("stream_type and StreamType contradict each other")
    return camel if snake is None else snake


def parse_messages(fields: Fields) -> list[Message]:
    """Parse the messages of a chat, or of a model that is created. Raise BadRequest."""
    return [_message(each) for each in in_turns(fields.children("messages", "[]api.Message", "api.Alias"))]


def _message(fields: Fields) -> Message:
    return Message(
        fields.string("role").lower(),
        _content(_images(fields), fields.string("content")),
        fields.string("thinking"),
        [_tool_call(each) for each in in_turns(fields.children("tool_calls", "[]api.ToolCall", "api.ToolCall"))],
        fields.string("tool_name"),
        fields.string("tool_call_id"),
    )


def _tools(fields: Fields) -> list[dict[str, Any]]:
    """Return the functions among the tools. Tools that only another server can run are left out."""
    tools = fields.array("tools", "api.Tools")
    for tool in tools:
        if not isinstance(tool, dict):
            raise BadRequest("tools must be a list of objects")
    return [tool for tool in tools if tool.get("type") in (None, "", "function") or "function" in tool]


def _images(fields: Fields) -> list[Image]:
    return [Image(decode(text)) for text in fields.strings("images", "[]api.ImageData", "api.ImageData")]


def _content(images: list[Image], text: str) -> str | list[str | Image]:
    """Return the content of a message. Its images come before its text, as in Ollama's `server/prompt.go`."""
    if not images:
        return text
    return [*images, text] if text else [*images]


def _tool_call(fields: Fields) -> dict[str, Any]:
    function = Fields(fields.mapping("function", "api.ToolCallFunction"), "ToolCallFunction")
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise BadRequest("Value looks like object, but can't find closing '}' symbol")
    call = {"type": "function", "function": {"name": function.string("name"), "arguments": arguments or {}}}
    return {"id": fields.string("id"), **call} if fields.string("id") else call


def _think(fields: Fields) -> bool | str | None:
    value = fields.get("think")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in THINK_LEVELS:
        return value
    choices = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str):
        raise BadRequest(f'invalid think value: "{value}" (must be {choices})')
    raise BadRequest(f"think must be a boolean or string ({choices})")


def _format(value: Any) -> str | dict[str, Any] | None:
    if value is None or value == "":
        return None
    if value == "json":
        return "json"
    if isinstance(value, dict):
        return value
    shown = msgspec.json.encode(value).decode()
    raise BadRequest(
        f'invalid format: {msgspec.json.encode(shown).decode()}; expected "json" or a valid JSON Schema object'
    )


def _logprobs(fields: Fields) -> int | None:
    alternatives = fields.integer("top_logprobs")
    if not 0 <= alternatives <= MAX_ALTERNATIVES:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_ALTERNATIVES}")
    return alternatives if fields.boolean("logprobs", False) else None
