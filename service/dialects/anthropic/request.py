"""Turn the bodies of Anthropic's Messages API into calls. It never knows the model's chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Chat, Request, Sampling
from ...syntax.options import OLLAMA_DEFAULTS, parse_options
from ..fields import Fields
from ..formats import kind_of, schema_of
from ..vllm_fields import MESSAGES, refuse_unsupported, template_arguments
from .messages import all_blocks, parse_turns
from .tools import parse_choice, parse_tools

# As in Ollama's `anthropic/anthropic.go`.
EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
THINKING = ("enabled", "disabled", "adaptive", "between_tools")
DISPLAYS = ("summarized", "full", "omitted")

_STRUCT = "MessagesRequest"


@dataclass(frozen=True)
class MessagesCall:
    """A parsed body. Without `show_thinking` the blocks of thinking are sent empty."""

    model: str
    request: Request
    stream: bool
    show_thinking: bool = True


def parse_messages(body: dict[str, Any]) -> MessagesCall:
    """Parse the body of `POST /v1/messages`. Raise BadRequest."""
    fields = Fields(body, _STRUCT)
    refuse_unsupported(fields, MESSAGES)
    model, max_tokens = fields.model(), fields.integer("max_tokens", -1)
    # With 0 the prompt is only put into the cache (Anthropic's guide to prompt caching, "Pre-warming the cache").
    if max_tokens < 0:
        raise BadRequest("max_tokens is required and must be positive")
    chat = _chat(fields)
    request = Request(
        model, chat, _sampling(fields, max_tokens), OLLAMA_DEFAULTS, truncate=False, format=_format(fields)
    )
    return MessagesCall(model, request, fields.boolean("stream", False), _display(fields) != "omitted")


def parse_count_tokens(body: dict[str, Any]) -> MessagesCall:
    """Parse the body of `POST /v1/messages/count_tokens`. Raise BadRequest."""
    fields = Fields(body, "CountTokensRequest")
    model = fields.model()
    return MessagesCall(model, Request(model, _chat(fields), truncate=False, render_only=True), stream=False)


def _chat(fields: Fields) -> Chat:
    messages = parse_turns(fields)
    tools = parse_tools(fields.children("tools", "[]Tool", "Tool"), all_blocks(fields))
    choice = parse_choice(fields, tools)
    switch, arguments = template_arguments(fields)
    think = _think(fields, switch)
    return Chat(messages, tools.shown(), think, must_think=False, template_arguments=arguments, **choice)


def _think(fields: Fields, switch: bool | None) -> bool | str | None:
    """Return False if the client switches thinking off, else its effort. None leaves the choice to the model."""
    kind = fields.child("thinking", "anthropic.ThinkingConfig").string("type", "enabled")
    effort = fields.child("output_config", "anthropic.OutputConfig").string("effort")
    if kind not in THINKING:
        raise BadRequest(f'invalid thinking type "{kind}": must be one of {", ".join(THINKING)}')
    if effort and effort not in EFFORTS:
        raise BadRequest(f'invalid effort "{effort}": must be one of {", ".join(EFFORTS)}')
    return False if kind == "disabled" or switch is False else EFFORTS.get(effort, switch)


def _display(fields: Fields) -> str:
    """Return how thinking is shown. A summary would have to be made by another model, so it is shown whole."""
    display = fields.child("thinking", "anthropic.ThinkingConfig").string("display", "summarized")
    if display not in DISPLAYS:
        raise BadRequest(f'invalid thinking display "{display}": must be one of {", ".join(DISPLAYS)}')
    return display


def _format(fields: Fields) -> str | dict[str, Any] | None:
    name, shape = "output_format", fields.child("output_format", "anthropic.Format")
    # The beta of structured outputs had that name, and older clients still use it.
    if not shape.values:
        config = fields.child("output_config", "anthropic.OutputConfig")
        name, shape = "output_config.format", config.child("format", "anthropic.Format")
    kind = kind_of(shape, "")
    if kind not in ("", "json_schema"):
        raise BadRequest(f'invalid {name} type "{kind}": must be "json_schema"')
    return schema_of(shape) if kind else None


def _sampling(fields: Fields, max_tokens: int) -> Sampling:
    stop = fields.strings("stop_sequences", "[]string", "string")
    named = {name: fields.get(name) for name in ("temperature", "top_p", "top_k")}
    return msgspec.structs.replace(parse_options({**named, "stop": stop})[0], max_tokens=max_tokens)
