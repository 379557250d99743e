"""OpenAI's Responses dialect: request bodies to calls, events to the records of its stream. Knows no bytes, no Flask.

Each record is an event of OpenAI's stream, named by its `type` and numbered; the last one holds the whole response,
which is what an answer that is not streamed is. Where a request says `"store": true` a response is kept, with all that
was said before it, and a later request can go on from there; without, a request brings its whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Chat, Request, Sampling
from ..answer import Record
from ..fields import Fields
from .parameters import MAX_ALTERNATIVES, OPENAI_DEFAULTS, integer, parse_model, parse_sampling, think
from .responses_items import _STRUCT, _conversation, _items

TOOL_MODES = ("auto", "none", "required")
# Whose state would be OpenAI's; with what they are answered.
STATEFUL = {
    "conversation": "this server knows no conversations; use previous_response_id, or send the whole one as input",
    "prompt": "this server stores no prompts; send it as instructions and input",
}


@dataclass(frozen=True)
class ResponsesCall:
    """A parsed body. `echo` are the parameters that the response repeats; `include` names what else it tells.

    `items` are those of the input, `earlier` those of the conversation that it goes on with.
    """

    model: str
    request: Request
    stream: bool
    echo: Record
    include: list[str]
    items: list[Record]
    earlier: list[Record]

    @property
    def store(self) -> bool:
        return bool(self.echo["store"])


def previous_response_id(body: dict[str, Any]) -> str:
    """Which response the request goes on from; empty: none. Raises BadRequest."""
    return Fields(body, _STRUCT).string("previous_response_id")


def parse_responses(body: dict[str, Any], earlier: Sequence[Record] = (), stores: bool = True) -> ResponsesCall:
    """The body of `POST /v1/responses`; raises BadRequest.

    `earlier` are the items before its own: those of the response that it goes on from. `stores`: whether any is kept.
    """
    fields = Fields(body, _STRUCT)
    model = parse_model(fields)
    _refuse_state(fields)
    if fields.boolean("store", False) and not stores:
        raise BadRequest("store: this server stores no responses (VLLM_WSGI_RESPONSES_DAYS is 0)")
    items = _items(fields)
    include = fields.array("include", "[]string")
    request = Request(
        model,
        _chat(fields, [*earlier, *items], first=-len(earlier)),
        _sampling(fields),
        OPENAI_DEFAULTS,
        truncate=_truncates(fields),
        format=_format(fields.child("text", "openai.Text").child("format", "openai.Format")),
        logprobs=_logprobs(fields) if "message.output_text.logprobs" in include else None,
    )
    return ResponsesCall(model, request, fields.boolean("stream", False), _echo(fields), include, items, list(earlier))


def _refuse_state(fields: Fields) -> None:
    for name, reason in STATEFUL.items():
        if fields.get(name):
            raise BadRequest(f"{name}: {reason}")
    if fields.boolean("background", False):
        raise BadRequest("background: this server runs nothing in the background; stream the answer instead")


def _chat(fields: Fields, items: list[Record], first: int) -> Chat:
    messages = _conversation(fields, items, first)
    if not messages:
        raise BadRequest("input is required")
    tools = {tool["function"]["name"]: tool for tool in map(_tool, fields.children("tools", "[]Tool", "Tool"))}
    mode, forced, allowed = _tool_choice(fields)
    for name in allowed or ([forced] if forced else []):
        if name not in tools:
            raise BadRequest(f'tool_choice names "{name}", which is not among the tools')
    if mode == "required" and not tools:
        raise BadRequest("tool_choice needs tools")
    return Chat(
        messages,
        [tool for name, tool in tools.items() if allowed is None or name in allowed],
        _think(fields),
        tool_choice=mode,
        forced_tool=forced,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
        must_think=False,
    )


def _tool(fields: Fields) -> Record:
    kind, name = fields.string("type"), fields.string("name")
    if kind != "function":
        raise BadRequest(f'tools: "{kind}" is not supported: only tools of type "function" are')
    if not name:
        raise BadRequest("tools: name is required")
    function = {
        "name": name,
        "description": fields.string("description"),
        "parameters": fields.mapping("parameters"),
        "strict": fields.boolean("strict", False),
    }
    told = {field: value for field, value in function.items() if value or field == "parameters"}
    return {"type": "function", "function": told}


def _tool_choice(fields: Fields) -> tuple[str, str, set[str] | None]:
    """The choice and the tool that must be called, as a Chat has them; and which tools are allowed, None: all."""
    value = fields.get("tool_choice")
    choice = Fields(value if isinstance(value, dict) else {"type": value}, _STRUCT, "tool_choice.")
    mode, forced, allowed = choice.string("type", "auto"), "", None
    if mode == "function":
        mode, forced = "required", choice.string("name")
    elif mode == "allowed_tools":
        mode = choice.string("mode", "auto")
        allowed = {tool.string("name") for tool in choice.children("tools", "[]Tool", "Tool")}
    if mode not in TOOL_MODES:
        raise BadRequest(f'invalid tool_choice "{mode}": must be "auto", "none", "required", or name functions')
    return mode, forced, allowed


def _think(fields: Fields) -> bool | str | None:
    effort = fields.child("reasoning", "openai.Reasoning").string("effort")
    return think(effort) if effort else None


def _format(format: Fields) -> str | dict[str, Any] | None:
    kind, schema = format.string("type", "text"), format.mapping("schema")
    if kind == "json_schema" and not schema:
        raise BadRequest("text.format.schema must be a JSON schema")
    if kind == "json_schema":
        return schema
    if kind not in ("text", "json_object"):
        raise BadRequest(f'invalid text.format type "{kind}": must be "text", "json_object" or "json_schema"')
    return "json" if kind == "json_object" else None


def _sampling(fields: Fields) -> Sampling:
    limit = integer(fields, "max_output_tokens", at_least=1)
    return msgspec.structs.replace(parse_sampling(fields), max_tokens=limit)


def _truncates(fields: Fields) -> bool:
    truncation = fields.string("truncation", "disabled")
    if truncation not in ("auto", "disabled"):
        raise BadRequest(f'invalid truncation "{truncation}": must be "auto" or "disabled"')
    return truncation == "auto"


def _logprobs(fields: Fields) -> int:
    alternatives = fields.integer("top_logprobs")
    if not 0 <= alternatives <= MAX_ALTERNATIVES:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_ALTERNATIVES}")
    return alternatives


def _echo(fields: Fields) -> Record:
    """The parameters that a response repeats, as they came; what does not exist here is null."""
    reasoning = fields.mapping("reasoning")
    return {
        "background": False,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": fields.mapping("metadata"),
        "parallel_tool_calls": fields.boolean("parallel_tool_calls", True),
        "previous_response_id": fields.get("previous_response_id") or None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "store": fields.boolean("store", False),
        "temperature": fields.get("temperature"),
        "text": {"format": {"type": "text"}} | fields.mapping("text"),
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.array("tools", "[]Tool"),
        "top_logprobs": fields.integer("top_logprobs"),
        "top_p": fields.get("top_p"),
        "truncation": fields.string("truncation", "disabled"),
        "user": fields.get("user"),
    }
