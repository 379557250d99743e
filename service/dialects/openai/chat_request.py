"""Turn the body of `POST /v1/chat/completions` into a call. It never knows the model's chat template."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Chat, Image, Message, Request, Sampling
from .. import images
from ..content import joined
from ..fields import Fields
from .parameters import (
    OPENAI_DEFAULTS,
    OpenAICall,
    go_type,
    integer,
    parse_alternatives,
    parse_n,
    parse_sampling,
    parse_stream,
    think,
)


def parse_chat(body: dict[str, Any]) -> OpenAICall:
    """Parse the body. Raise BadRequest."""
    fields = Fields(body, "ChatCompletionRequest")
    model = fields.model()
    stream, include_usage = parse_stream(fields)
    messages = _messages(fields)
    tools = _tools(fields)
    tool_choice, forced_tool = _tool_choice(fields.get("tool_choice"), tools)
    chat = Chat(
        messages,
        tools,
        think=_think(fields),
        tool_choice=tool_choice,
        forced_tool=forced_tool,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
    )
    n = parse_n(fields)
    request = Request(
        model, chat, _sampling(fields), OPENAI_DEFAULTS, format=_format(fields), logprobs=_logprobs(fields), n=n
    )
    return OpenAICall(model, [request], n, stream, include_usage)


def _messages(fields: Fields) -> list[Message]:
    parsed: list[Message] = []
    names: dict[str, str] = {}
    for each in fields.children("messages", "[]openai.Message", "openai.Message"):
        message = _message(each, names)
        names |= {call["id"]: call["function"]["name"] for call in message.tool_calls}
        parsed.append(message)
    if not parsed:
        raise BadRequest("[] is too short - 'messages'")
    return parsed


def _message(fields: Fields, names: dict[str, str]) -> Message:
    """Return one message. `names` holds the names of the tools called so far, by the ids of the calls."""
    role, call_id = fields.string("role").lower(), fields.string("tool_call_id")
    calls = [_tool_call(each) for each in fields.children("tool_calls", "[]openai.ToolCall", "openai.ToolCall")]
    thinking = fields.string("reasoning") or fields.string("reasoning_content")
    return Message(
        # Chat templates know the older of OpenAI's two names.
        "system" if role == "developer" else role,
        _content(fields.get("content"), may_be_absent=bool(calls or thinking)),
        thinking,
        calls,
        fields.string("name") or names.get(call_id, "") if role == "tool" else "",
        call_id,
    )


def _content(value: Any, may_be_absent: bool) -> str | list[str | Image]:
    if isinstance(value, str):
        return value
    if value is None and may_be_absent:
        return ""
    if not isinstance(value, list):
        raise BadRequest(f"invalid message content type: {go_type(value)}")
    return joined([_part(part) for part in value])


def _part(part: Any) -> str | Image:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "image_url":
        url = part.get("image_url")
        return _image(url.get("url") if isinstance(url, dict) else url)
    if kind == "input_audio":
        raise BadRequest("audio input is not supported")
    raise BadRequest("invalid message format")


def _image(url: Any) -> Image:
    if not isinstance(url, str):
        raise BadRequest("invalid message format")
    return images.from_url(url)


def _tool_call(fields: Fields) -> dict[str, Any]:
    function = fields.child("function", "openai.ToolCallFunction")
    try:
        arguments = json.loads(function.string("arguments") or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise BadRequest("invalid tool call arguments")
    call = {"type": "function", "function": {"name": function.string("name"), "arguments": arguments}}
    return {"id": fields.string("id"), **call}


def _tools(fields: Fields) -> list[dict[str, Any]]:
    tools = fields.array("tools", "[]api.Tool")
    for place, tool in enumerate(tools):
        function = (
            tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
        )
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise BadRequest(f"tools[{place}] must be a function with a name")
    return tools


def _tool_choice(value: Any, tools: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the choice and the name of the tool that it forces."""
    if value in (None, "auto", "none"):
        return value or "auto", ""
    if value == "required":
        if not tools:
            raise BadRequest("tool_choice needs tools")
        return "required", ""
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest('tool_choice must be "none", "auto", "required" or a named function')
    if name not in [tool["function"]["name"] for tool in tools]:
        raise BadRequest(f"tool_choice names a tool that is not in tools: {name}")
    return "required", name


def _think(fields: Fields) -> bool | str | None:
    """Return `reasoning.effort` or `reasoning_effort`, else the switch that vLLM's clients send for the template."""
    effort = fields.child("reasoning", "openai.Reasoning").string("effort") or fields.string("reasoning_effort")
    if not effort:
        switch = fields.mapping("chat_template_kwargs").get("enable_thinking")
        return switch if isinstance(switch, bool) else None
    return think(effort)


def _sampling(fields: Fields) -> Sampling:
    limits = [integer(fields, name, at_least=1) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((limit for limit in limits if limit is not None), None)
    return msgspec.structs.replace(parse_sampling(fields), max_tokens=limit)


def _format(fields: Fields) -> str | dict[str, Any] | None:
    """Return the format of the internal request: "json", a schema, or None."""
    shape = fields.child("response_format", "openai.ResponseFormat")
    kind = shape.string("type", "text")
    if kind == "json_schema":
        schema = shape.child("json_schema", "openai.JsonSchema").get("schema")
        if not isinstance(schema, dict):
            raise BadRequest("response_format.json_schema.schema must be a JSON schema")
        return schema
    if kind not in ("text", "json_object"):
        raise BadRequest('response_format.type must be "text", "json_object" or "json_schema"')
    return "json" if kind == "json_object" else None


def _logprobs(fields: Fields) -> int | None:
    alternatives = parse_alternatives(fields)
    return alternatives if fields.boolean("logprobs", False) else None
