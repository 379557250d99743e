"""OpenAI's chat: `POST /v1/chat/completions` to a call, events to chunks. Knows no bytes and no Flask."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from . import images
from .body import Fields
from .errors import BadRequest
from .messages import Chat, Delta, Finished, Image, Message, Request, Sampling, TokenLogprob
from .openai import (
    MAX_ALTERNATIVES,
    OPENAI_DEFAULTS,
    Answer,
    Call,
    go_type,
    integer,
    parse_model,
    parse_n,
    parse_sampling,
    parse_stream,
    think,
)

# --- what comes in ---------------------------------------------------------------------------------------


def parse_chat(body: dict[str, Any]) -> Call:
    """The body of the request; raises BadRequest."""
    fields = Fields(body, "ChatCompletionRequest")
    model = parse_model(fields)
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
    return Call(model, [request], n, stream, include_usage)


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
    """`names` are those of the tools that have been called, by the ids of the calls."""
    role, call_id = fields.string("role").lower(), fields.string("tool_call_id")
    calls = [_tool_call(each) for each in fields.children("tool_calls", "[]openai.ToolCall", "openai.ToolCall")]
    thinking = fields.string("reasoning") or fields.string("reasoning_content")
    return Message(
        # Chat templates know OpenAI's newer name by the older one.
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
    parts = [_part(part) for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    # As vLLM joins texts for templates that know strings only.
    return parts if len(texts) < len(parts) else "\n".join(texts)


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
    """The choice, and the name of the tool that it forces."""
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
    """`reasoning.effort`, `reasoning_effort`, or what vLLM's clients send for a template to read."""
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
    """ "json" or a schema, as the internal request has it."""
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
    alternatives = fields.integer("top_logprobs")
    if not 0 <= alternatives <= MAX_ALTERNATIVES:
        raise BadRequest(f"top_logprobs must be between 0 and {MAX_ALTERNATIVES}")
    return alternatives if fields.boolean("logprobs", False) else None


# --- what goes out ---------------------------------------------------------------------------------------


class Function(msgspec.Struct):
    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    id: str
    index: int
    type: str
    function: Function


class ChatMessage(msgspec.Struct):
    """A chunk's `delta`, or the whole `message`. Thinking has both names that clients read it by."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Alternative(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[int]


class ChosenToken(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[Alternative]


class Logprobs(msgspec.Struct):
    content: list[ChosenToken]
    refusal: None = None


class ChunkChoice(msgspec.Struct):
    index: int
    delta: ChatMessage
    finish_reason: str | None = None
    logprobs: Logprobs | UnsetType = UNSET


class Choice(msgspec.Struct):
    index: int
    message: ChatMessage
    finish_reason: str | None
    logprobs: Logprobs | UnsetType = UNSET


class ChatAnswer(Answer):
    verb = "chat"
    prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, call: Call, now: Callable[[], float] = time.time) -> None:
        super().__init__(call, now)
        self._begun: set[int] = set()
        # How many tools each answer has called.
        self._calls: dict[int, int] = {}

    def _choices(self, delta: Delta) -> list[ChunkChoice]:
        """Thinking comes in a chunk of its own, before the content; so do tool calls, after it."""
        messages = []
        if delta.thinking:
            messages.append(ChatMessage(content="", reasoning=delta.thinking, reasoning_content=delta.thinking))
        if delta.text:
            messages.append(ChatMessage(content=delta.text))
        if delta.tool_calls:
            messages.append(ChatMessage(content="", tool_calls=self._tool_calls(delta)))
        if not messages and (delta.index not in self._begun or delta.logprobs):
            messages.append(ChatMessage(content=""))
        choices = [ChunkChoice(delta.index, message) for message in self._with_role(delta.index, messages)]
        if delta.logprobs:
            choices[0].logprobs = Logprobs([_chosen(token) for token in delta.logprobs])
        return choices

    def _last(self, finished: Finished) -> list[ChunkChoice]:
        begin = [] if finished.index in self._begun else self._with_role(finished.index, [ChatMessage(content="")])
        called = finished.reason == "stop" and finished.index in self._calls
        reason = "tool_calls" if called else finished.reason
        return [
            *(ChunkChoice(finished.index, message) for message in begin),
            ChunkChoice(finished.index, ChatMessage(), reason),
        ]

    def _with_role(self, index: int, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages and index not in self._begun:
            self._begun.add(index)
            messages[0].role = "assistant"
        return messages

    def _tool_calls(self, delta: Delta) -> list[ToolCall]:
        first = self._calls.get(delta.index, 0)
        self._calls[delta.index] = first + len(delta.tool_calls)
        return [_call(place, call) for place, call in enumerate(delta.tool_calls, first)]

    def _whole(self, index: int, choices: list[ChunkChoice]) -> Choice:
        deltas = [choice.delta for choice in choices]
        thinking = "".join(delta.reasoning or "" for delta in deltas) or UNSET
        message = ChatMessage(
            "assistant",
            "".join(delta.content or "" for delta in deltas),
            thinking,
            thinking,
            [call for delta in deltas for call in delta.tool_calls or []] or UNSET,
        )
        tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
        return Choice(index, message, choices[-1].finish_reason, Logprobs(tokens) if tokens else UNSET)


def _call(index: int, call: dict[str, Any]) -> ToolCall:
    function = call["function"]
    arguments = msgspec.json.encode(function["arguments"]).decode()
    return ToolCall(call["id"], index, "function", Function(function["name"], arguments))


def _chosen(token: TokenLogprob) -> ChosenToken:
    others = [Alternative(each.token, each.logprob, each.bytes) for each in token.top_logprobs]
    return ChosenToken(token.token, token.logprob, token.bytes, others)
