"""Turn the body of `POST /v1/responses` into a call.

A response is stored, with the conversation before it, only if its request has `"store": true`. A later request can
then continue it. Otherwise each request brings its whole conversation. It never knows where responses are stored.
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
from ..formats import kind_of, schema_of
from ..tools import Tools
from ..vllm_fields import RESPONSES, refuse_unsupported, template_arguments
from .constraints import with_vllms
from .parameters import OPENAI_DEFAULTS, integer, parse_alternatives, parse_sampling, think
from .responses_items import STRUCT, parse_conversation, parse_items
from .responses_stored import resolved
from .responses_tools import parse_choice, parse_tools

# Fields that refer to state on OpenAI's servers, and the reason for which each is refused.
STATEFUL = {
    "conversation": "this server keeps no conversations; use previous_response_id, or send the whole one as input",
    "prompt": "this server stores no prompts; send it as instructions and input",
}


@dataclass(frozen=True)
class ResponsesCall:
    """A parsed body.

    `echo` holds the parameters that the response repeats, and `include` the names of its optional parts. `items` are
    those of the input; `earlier` are those of the response that the request continues. `split_names`: a call of a tool
    in a namespace has the fields `namespace` and `name`. In the `background`: generated without a reader.
    """

    model: str
    request: Request
    stream: bool
    echo: Record
    include: list[str]
    items: list[Record]
    earlier: list[Record]
    tools: Tools
    split_names: bool = False
    show_thinking: bool = True
    background: bool = False

    @property
    def store(self) -> bool:
        """Return whether the response is to be stored."""
        return bool(self.echo["store"])


def previous_response_id(body: dict[str, Any]) -> str:
    """Return the id of the response that the request continues, empty if there is none. Raise BadRequest."""
    return Fields(body, STRUCT).string("previous_response_id")


def parse_responses(
    body: dict[str, Any],
    earlier: Sequence[Record] = (),
    stores: bool = True,
    referred: Sequence[Record] = (),
    split_names: bool = False,
) -> ResponsesCall:
    """Parse the body. Raise BadRequest.

    `earlier` are the items of the response that the request continues. `stores` is whether this server stores any.
    `referred` are stored items to which items of the input may refer. `split_names` is a ResponsesCall's.
    """
    fields = Fields(body, STRUCT)
    model = fields.model()
    refuse_unsupported(fields, RESPONSES)
    _refuse_state(fields, stores)
    items = resolved(parse_items(fields), [*earlier, *referred])
    tools = parse_tools(fields, [*earlier, *items])
    include = fields.array("include", "[]string")
    alternatives = parse_alternatives(fields)
    background = _background(fields, include)
    form, constraint = with_vllms(fields, _format(fields.child("text", "openai.Text").child("format", "openai.Format")))
    request = Request(
        model,
        _chat(fields, [*earlier, *items], -len(earlier), tools),
        _sampling(fields),
        OPENAI_DEFAULTS,
        truncate=_truncates(fields),
        format=form,
        constraint=constraint,
        logprobs=alternatives if "message.output_text.logprobs" in include else None,
    )
    stream, show_thinking = fields.boolean("stream", False), fields.boolean("include_reasoning", True)
    echo = _echo(fields)
    if background:
        echo |= {"background": True, "store": stores}
    return ResponsesCall(
        model, request, stream, echo, include, items, list(earlier), tools, split_names, show_thinking, background
    )


def _refuse_state(fields: Fields, stores: bool) -> None:
    """Raise BadRequest for a request that needs state on OpenAI's servers, or a response that is not stored here."""
    for name, reason in STATEFUL.items():
        if fields.get(name):
            raise BadRequest(f"{name}: {reason}", param=name, code="unsupported_parameter")
    if fields.boolean("store", False) and not stores:
        raise BadRequest("store: this server stores no responses (VLLM_WSGI_RESPONSES_DAYS is 0)", param="store")


def _background(fields: Fields, include: list[str]) -> bool:
    """Return whether the response is generated without a reader. Raise BadRequest for fields that contradict it."""
    if not fields.boolean("background", False):
        return False
    if fields.get("store") is False:
        raise BadRequest("background: the response has to be stored; leave store out", param="store")
    if "message.output_text.logprobs" in include:
        raise BadRequest("background: it can't go with message.output_text.logprobs", param="background")
    return True


def _chat(fields: Fields, items: list[Record], first: int, tools: Tools) -> Chat:
    messages = parse_conversation(fields, items, first)
    if not messages:
        raise BadRequest(
            "input: none of its items has content that the model can read" if items else "input is required",
            param="input",
        )
    choice = parse_choice(fields, tools)
    switch, arguments = template_arguments(fields)
    return Chat(
        messages,
        tools.shown(choice.allowed),
        _think(fields, switch),
        tool_choice=choice.mode,
        forced_tool=choice.forced,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
        must_think=False,
        template_arguments=arguments,
    )


def _think(fields: Fields, switch: bool | None) -> bool | str | None:
    effort = fields.child("reasoning", "openai.Reasoning").string("effort")
    return think(effort, "reasoning.effort") if effort else switch


def _format(format: Fields) -> str | dict[str, Any] | None:
    kind = kind_of(format, "text")
    if kind == "json_schema":
        return schema_of(format)
    if kind not in ("text", "json_object"):
        message = f'invalid text.format type "{kind}": must be "text", "json_object" or "json_schema"'
        raise BadRequest(message, param="text.format.type")
    return schema_of(format) if kind == "json_object" else None


def _sampling(fields: Fields) -> Sampling:
    limit = integer(fields, "max_output_tokens", at_least=1)
    return msgspec.structs.replace(parse_sampling(fields), max_tokens=limit)


def _truncates(fields: Fields) -> bool:
    truncation = fields.string("truncation", "disabled")
    if truncation not in ("auto", "disabled"):
        raise BadRequest(f'invalid truncation "{truncation}": must be "auto" or "disabled"', param="truncation")
    return truncation == "auto"


def _echo(fields: Fields) -> Record:
    """Return the parameters that a response repeats as the client sent them. Those that have no effect are null."""
    reasoning, text = fields.mapping("reasoning"), fields.child("text", "openai.Text").values
    return {
        "background": False,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": fields.strings_by_name("metadata"),
        "parallel_tool_calls": fields.boolean("parallel_tool_calls", True),
        "previous_response_id": fields.get("previous_response_id") or None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "store": fields.boolean("store", False),
        "temperature": fields.get("temperature"),
        "text": text | {"format": text.get("format") or {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.array("tools", "[]Tool"),
        "top_logprobs": fields.integer("top_logprobs"),
        "top_p": fields.get("top_p"),
        "truncation": fields.string("truncation", "disabled"),
        "user": fields.string("user") or None,
    }
