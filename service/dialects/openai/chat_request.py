"""Turn the body of `POST /v1/chat/completions` into a call. It never knows the model's chat template."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Chat, Request, Sampling
from ..fields import Fields
from .chat_messages import parse_messages
from .chat_tools import parse_choice, parse_tools
from .parameters import (
    OPENAI_DEFAULTS,
    OpenAICall,
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
    messages = parse_messages(fields)
    tools = parse_tools(fields)
    tool_choice, forced_tool, allowed = parse_choice(fields.get("tool_choice"), tools)
    chat = Chat(
        messages,
        tools.shown(allowed),
        think=_think(fields),
        tool_choice=tool_choice,
        forced_tool=forced_tool,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
    )
    n = parse_n(fields)
    request = Request(
        model, chat, _sampling(fields), OPENAI_DEFAULTS, format=_format(fields), logprobs=_logprobs(fields), n=n
    )
    return OpenAICall(model, [request], n, stream, include_usage, tools)


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
