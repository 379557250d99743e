"""OpenAI's Responses dialect: request bodies to calls, events to the records of its stream. Knows no bytes, no Flask.

Each record is an event of OpenAI's stream, named by its `type` and numbered; the last one holds the whole response,
which is what an answer that is not streamed is. Where a request says `"store": true` a response is kept, with all that
was said before it, and a later request can go on from there; without, a request brings its whole conversation.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from . import answer, images
from .body import Fields, parse_json
from .errors import BadRequest, ServiceError
from .messages import Chat, Delta, Event, Finished, Image, Located, Message, Request, Sampling, TokenLogprob
from .openai import MAX_ALTERNATIVES, OPENAI_DEFAULTS, integer, parse_model, parse_sampling, think

Record = dict[str, Any]

TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
# What only OpenAI's own servers write and the model has no use for.
DROPPED_ITEMS = ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call")
# What the ids of items begin with.
ITEM_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}
TOOL_MODES = ("auto", "none", "required")
# Whose state would be OpenAI's; with what they are answered.
STATEFUL = {
    "conversation": "this server knows no conversations; use previous_response_id, or send the whole one as input",
    "prompt": "this server stores no prompts; send it as instructions and input",
}
# How many of a response's items are told at once.
PAGE_SIZES = [str(size) for size in range(1, 101)]

_STRUCT = "ResponsesRequest"


# --- what comes in ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
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


def parse_responses(body: dict[str, Any], earlier: Sequence[Record] = (), stores: bool = True) -> Call:
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
    return Call(model, request, fields.boolean("stream", False), _echo(fields), include, items, list(earlier))


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


def _conversation(fields: Fields, items: list[Record], first: int) -> list[Message]:
    """The instructions and the items; what the model gave in one answer (thinking, text, calls) is one message.

    `first` is the place of the first item: what is wrong is told by its place in the input.
    """
    messages = [Message("system", text)] if (text := fields.string("instructions")) else []
    called: dict[str, str] = {}
    for index, item in enumerate(items, first):
        try:
            messages += _item(Fields(item, _STRUCT, "input."), called)
        except BadRequest as error:
            raise BadRequest(f"input[{index}]: {error.message}") from None
    turns: list[Message] = []
    for role, group in groupby(messages, attrgetter("role")):
        run = list(group)
        turns += [_joined(run)] if role in ("assistant", "system") else run
    return turns


def _items(fields: Fields) -> list[Record]:
    value = fields.get("input")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is not None and not isinstance(value, list):
        raise BadRequest("input must be a string or array")
    fields.children("input", "[]Item", "Item")
    return value or []


def _item(item: Fields, called: dict[str, str]) -> list[Message]:
    """None at all for an item that tells the model nothing. `called` collects the names of the called tools."""
    kind = item.string("type") or ("message" if item.string("role") else "")
    if kind == "message":
        return [_message(item)]
    if kind == "reasoning":
        return [Message("assistant", thinking=_reasoning(item))]
    if kind == "function_call":
        return [_function_call(item, called)]
    if kind == "function_call_output":
        call_id = item.string("call_id")
        return [Message("tool", _content(item, "output"), tool_name=called.get(call_id, ""), tool_call_id=call_id)]
    if kind in DROPPED_ITEMS:
        return []
    if not kind:
        raise BadRequest("input item missing required 'type' field")
    raise BadRequest(f'unknown input item type: "{kind}"')


def _message(item: Fields) -> Message:
    role = item.string("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise BadRequest(f'invalid role "{role}": must be "user", "assistant", "system" or "developer"')
    # Templates know no developers, or take the system for one.
    return Message("system" if role == "developer" else role, _content(item, "content"))


def _reasoning(item: Fields) -> str:
    """What we wrote as `encrypted_content` is plain, as Ollama's is."""
    parts = item.children("content", "[]Part", "Part") or item.children("summary", "[]Part", "Part")
    return item.string("encrypted_content") or "\n".join(part.string("text") for part in parts)


def _function_call(item: Fields, called: dict[str, str]) -> Message:
    call_id, name = item.string("call_id"), item.string("name")
    called[call_id] = name
    try:
        arguments = parse_json((item.string("arguments") or "{}").encode(), "FunctionCall")
    except BadRequest as error:
        raise BadRequest(f"failed to parse function call arguments: {error.message}") from None
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return Message("assistant", tool_calls=[call])


def _joined(messages: list[Message]) -> Message:
    """One message of several of one role."""
    parts: list[str | Image] = []
    for message in messages:
        parts += message.content if isinstance(message.content, list) else [message.content] if message.content else []
    return Message(
        messages[0].role,
        _lines(parts),
        "\n".join(message.thinking for message in messages if message.thinking),
        [call for message in messages for call in message.tool_calls],
    )


def _lines(parts: list[str | Image]) -> str | list[str | Image]:
    """One text, a line break between its parts, where there is nothing else."""
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _content(item: Fields, name: str) -> str | list[str | Image]:
    content = item.get(name)
    if isinstance(content, str):
        return content
    parts = item.children(name, "[]Part", "Part")
    return _lines([_part(part, f"{name}[{index}]") for index, part in enumerate(parts)])


def _part(part: Fields, place: str) -> str | Image:
    kind = part.string("type")
    if kind in TEXT_PARTS:
        return part.string("text")
    if kind == "refusal":
        return part.string("refusal")
    if kind == "input_image" and part.string("image_url"):
        return images.from_url(part.string("image_url"))
    if kind in ("input_file", "input_image"):
        raise BadRequest("file inputs are not currently supported")
    raise BadRequest(f"{place}: unknown content type: {kind}")


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


# --- what is stored --------------------------------------------------------------------------------------


def conversation(stored: Record) -> list[Record]:
    """The items of a stored response, up to its output, for the request that goes on from it."""
    return [*stored["input"], *stored["response"]["output"]]


def input_items(stored: Record, query: Mapping[str, str]) -> Record:
    """A page of the items before a stored response's output, the latest first unless the query wants otherwise.

    Raises BadRequest.
    """
    order, limit, after = query.get("order", "desc"), query.get("limit", "20"), query.get("after", "")
    if order not in ("asc", "desc"):
        raise BadRequest(f'invalid order "{order}": must be "asc" or "desc"')
    if limit not in PAGE_SIZES:
        raise BadRequest(f"limit must be between 1 and {PAGE_SIZES[-1]}")
    items = stored["input"] if order == "asc" else stored["input"][::-1]
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise BadRequest(f"after: no item has the id '{after}'")
    start = ids.index(after) + 1 if after else 0
    page = items[start : start + int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(items),
    }


def _listed(item: Record, key: str) -> Record:
    """An item of a request as OpenAI lists it: with a type, an id of ours, and a message's text as a part."""
    told = {"type": "message"} | {name.lower(): value for name, value in item.items() if value is not None}
    if told["type"] == "message" and isinstance(told.get("content"), str):
        part = "output_text" if told.get("role") == "assistant" else "input_text"
        told["content"] = [{"type": part, "text": told["content"]}]
    return told | {"id": f"{ITEM_PREFIXES.get(told['type'], 'item')}_{key}"}


# --- what goes out ---------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How an item that streams its text is spelled: its id, its events, and where it keeps the text."""

    prefix: str
    text: str
    part: str
    place: str
    field: str


KINDS = {
    "reasoning": Kind(
        "rs", "response.reasoning_summary_text", "response.reasoning_summary_part", "summary_index", "summary"
    ),
    "message": Kind("msg", "response.output_text", "response.content_part", "content_index", "content"),
}


class Answer(answer.Answer):
    """`key` makes the ids, and is random where none is given; `now` is in seconds.

    `keep` stores a response that is to be stored, under its id, before its last record is told: who has read that can
    go on from it. What it raises ends the stream.
    """

    verb = "chat"

    def __init__(
        self,
        call: Call,
        key: str = "",
        now: Callable[[], float] = time.time,
        keep: Callable[[str, Record], None] | None = None,
    ) -> None:
        super().__init__(call.model)
        self._call = call
        self._key = key or secrets.token_hex(12)
        self._now = now
        self._keep = keep
        self._ended: Record | None = None
        self._created_at = int(now())
        self._sequence = 0
        self._output: list[Record] = []
        self._item: Record | None = None
        self._pieces: list[str] = []
        self._logprobs: list[Record] = []

    def records(self, batches: Iterable[list[Event]]) -> Iterator[list[Record]]:
        """The last record comes in a batch of its own, once the response is stored if it is to be."""
        yield from super().records(batches)
        if self._ended is not None:
            if self._keep is not None and self._call.store:
                self._keep(self._ended["id"], {"input": self._input(), "response": self._ended})
            yield [self._event(f"response.{self._ended['status']}", response=self._ended)]

    def _input(self) -> list[Record]:
        items = self._call.items
        return [*self._call.earlier, *(_listed(item, f"{self._key}i{place}") for place, item in enumerate(items))]

    def failure(self, error: ServiceError) -> Record:
        """The last record of a stream that failed: of its response, once there is one."""
        told = {"code": "server_error" if error.status >= 500 else "invalid_prompt", "message": error.message}
        if self._sequence:
            return self._event("response.failed", response=self._response("failed", error=told))
        # The object is for openai-python, which raises only where it finds one.
        return self._event("error", **told, param=None, error={**told, "type": "server_error", "param": None})

    def _join(self, records: list[Record]) -> Record:
        """The response, which the last record holds."""
        response: Record = records[-1]["response"]
        return response

    def _records(self, event: Event) -> Iterator[Record]:
        if isinstance(event, Located):
            self.located(event)
        elif isinstance(event, Delta):
            yield from self._start()
            yield from self._parts(event)
        elif isinstance(event, Finished):
            yield from self._start()
            yield from self._end(event)

    def _start(self) -> Iterator[Record]:
        """Once, before anything else."""
        if not self._sequence:
            yield self._event("response.created", response=self._response("in_progress"))
            yield self._event("response.in_progress", response=self._response("in_progress"))

    def _parts(self, delta: Delta) -> Iterator[Record]:
        if delta.thinking:
            yield from self._say("reasoning", delta.thinking)
        if delta.text:
            logprobs = [_logprob(token) for token in delta.logprobs]
            yield from self._say("message", delta.text, logprobs=logprobs)
            self._logprobs += logprobs
        for call in delta.tool_calls:
            yield from self._tool_call(call)

    def _say(self, type: str, text: str, **fields: Any) -> Iterator[Record]:
        """A piece of the open item, or of a new one where none of this type is."""
        kind = KINDS[type]
        if self._item is None or self._item["type"] != type:
            yield from self._close("completed")
            self._item = {"id": self._item_id(kind.prefix), "type": type, kind.field: []}
            if type == "message":
                self._item |= {"role": "assistant", "status": "in_progress"}
            self._pieces, self._logprobs = [], []
            yield self._event("response.output_item.added", output_index=len(self._output), item=self._item)
            yield self._about(f"{kind.part}.added", part=_text_part(type, ""))
        self._pieces.append(text)
        yield self._about(f"{kind.text}.delta", delta=text, **fields)

    def _close(self, status: str) -> Iterator[Record]:
        """Of a message or a reasoning that is open, what it has come to."""
        if self._item is None:
            return
        name, text = self._item["type"], "".join(self._pieces)
        kind = KINDS[name]
        spoken = {"logprobs": self._logprobs} if name == "message" else {}
        part = _text_part(name, text) | spoken
        yield self._about(f"{kind.text}.done", text=text, **spoken)
        yield self._about(f"{kind.part}.done", part=part)
        item = self._item | {kind.field: [part]}
        if name == "message":
            item["status"] = status
        elif "reasoning.encrypted_content" in self._call.include:
            item["encrypted_content"] = text
        self._item = None
        yield self._done(item)

    def _tool_call(self, call: Record) -> Iterator[Record]:
        yield from self._close("completed")
        function = call["function"]
        arguments = msgspec.json.encode(function["arguments"]).decode()
        item = {
            "id": self._item_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": "",
        }
        place = {"item_id": item["id"], "output_index": len(self._output)}
        yield self._event("response.output_item.added", output_index=len(self._output), item=item)
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event("response.function_call_arguments.done", **place, arguments=arguments)
        yield self._done(item | {"status": "completed", "arguments": arguments})

    def _done(self, item: Record) -> Record:
        self._output.append(item)
        return self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _end(self, finished: Finished) -> Iterator[Record]:
        cut = finished.reason == "length"
        status = "incomplete" if cut else "completed"
        yield from self._close(status)
        self._ended = self._response(
            status,
            completed_at=None if cut else int(self._now()),
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage=_usage(finished),
        )

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._key}{len(self._output)}"

    def _about(self, type: str, **fields: Any) -> Record:
        """An event of the one part of the open item."""
        assert self._item is not None
        place = {KINDS[self._item["type"]].place: 0}
        return self._event(type, item_id=self._item["id"], output_index=len(self._output), **place, **fields)

    def _event(self, type: str, **fields: Any) -> Record:
        self._sequence += 1
        return {"type": type, "sequence_number": self._sequence - 1, **fields}

    def _response(self, status: str, **fields: Any) -> Record:
        response: Record = {
            "id": f"resp_{self._key}",
            "object": "response",
            "created_at": self._created_at,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": list(self._output),
            "usage": None,
        }
        return response | fields | self._call.echo


def _text_part(type: str, text: str) -> Record:
    if type == "reasoning":
        return {"type": "summary_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(finished: Finished) -> Record:
    return {
        "input_tokens": finished.prompt_tokens,
        "input_tokens_details": {"cached_tokens": finished.cached_tokens},
        "output_tokens": finished.output_tokens,
        "output_tokens_details": {"reasoning_tokens": finished.thinking_tokens},
        "total_tokens": finished.prompt_tokens + finished.output_tokens,
    }


def _logprob(token: TokenLogprob) -> Record:
    """Every field, where a TokenLogprob leaves the empty ones out."""
    alternatives = [_logprob(each) for each in token.top_logprobs]
    return {"token": token.token, "bytes": token.bytes, "logprob": token.logprob, "top_logprobs": alternatives}
