"""Turn the engine's events into chat completions and their chunks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ...protocol.events import Delta, Finished, TokenLogprob
from .answer import OpenAIAnswer
from .custom_tools import CUSTOM, custom_input
from .parameters import OpenAICall


class Function(msgspec.Struct):
    """A called function. `arguments` is JSON, or a piece of it."""

    name: str
    arguments: str


class CustomInput(msgspec.Struct):
    """The text for a called custom tool."""

    name: str
    input: str


class ToolCall(msgspec.Struct):
    """A call of a function, or with `custom` of a custom tool."""

    id: str
    index: int
    type: str
    function: Function | UnsetType = UNSET
    custom: CustomInput | UnsetType = UNSET


class ChatMessage(msgspec.Struct):
    """A chunk's `delta`, or the whole `message`. Thinking has two names, since some clients read only one of them."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Alternative(msgspec.Struct):
    """A token that could have come in a place, its log probability, and its text in UTF-8."""

    token: str
    logprob: float | None
    bytes: tuple[int, ...]


class ChosenToken(msgspec.Struct):
    """The token that has come in a place, with its alternatives there."""

    token: str
    logprob: float | None
    bytes: tuple[int, ...]
    top_logprobs: list[Alternative]


class Logprobs(msgspec.Struct):
    """The log probabilities of a choice. OpenAI's `refusal` is always null here."""

    content: list[ChosenToken]
    refusal: None = None


class ChunkChoice(msgspec.Struct):
    """The new piece of one answer."""

    index: int
    delta: ChatMessage
    finish_reason: str | None = None
    logprobs: Logprobs | UnsetType = UNSET


class Choice(msgspec.Struct):
    """One whole answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None
    logprobs: Logprobs | UnsetType = UNSET


class ChatAnswer(OpenAIAnswer):
    """The records of `POST /v1/chat/completions`."""

    verb = "chat"
    prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, call: OpenAICall, now: Callable[[], float] = time.time) -> None:
        super().__init__(call, now)
        self._tools = call.tools
        self._show_thinking = call.show_thinking
        self._begun: set[int] = set()
        # The number of calls of each answer.
        self._calls: dict[int, int] = {}

    def _choices(self, delta: Delta) -> list[ChunkChoice]:
        """Return a choice each for the thinking, the text and the tool calls of a delta, in this order.

        Log probabilities are never in the first choice of an answer, which has the role: OpenAI sends none there, and
        the stream helper of its JavaScript client counts them twice.
        """
        messages = [ChatMessage(content="")] if delta.logprobs and delta.index not in self._begun else []
        first = len(messages)
        if delta.thinking and self._show_thinking:
            messages.append(ChatMessage(content="", reasoning=delta.thinking, reasoning_content=delta.thinking))
        if delta.text:
            messages.append(ChatMessage(content=delta.text))
        if delta.tool_calls:
            messages.append(ChatMessage(content="", tool_calls=self._tool_calls(delta)))
        if len(messages) == first and (delta.index not in self._begun or delta.logprobs):
            messages.append(ChatMessage(content=""))
        choices = [ChunkChoice(delta.index, message) for message in self._with_role(delta.index, messages)]
        if delta.logprobs:
            choices[first].logprobs = Logprobs([_chosen(token) for token in delta.logprobs])
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
        return [self._tool_call(place, call) for place, call in enumerate(delta.tool_calls, first)]

    def _tool_call(self, index: int, call: dict[str, Any]) -> ToolCall:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        tool = self._tools.offered.get(name)
        if tool and tool.form == CUSTOM:
            return ToolCall(call["id"], index, CUSTOM, custom=CustomInput(name, custom_input(arguments)))
        return ToolCall(call["id"], index, "function", Function(name, msgspec.json.encode(arguments).decode()))

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


def _chosen(token: TokenLogprob) -> ChosenToken:
    others = [Alternative(each.token, each.logprob, each.bytes) for each in token.top_logprobs]
    return ChosenToken(token.token, token.logprob, token.bytes, others)
