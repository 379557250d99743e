"""Splits an answer into thinking, content and whole tool calls, with vLLM's own parsers."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from vllm.config import ModelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import Parser, ParserManager
from vllm.sampling_params import StructuredOutputsParams

from ...errors import BadRequest
from ...models.parser_names import ParserNames
from ...protocol.request import Chat
from .render import template_tool

_ID_ALPHABET = string.ascii_lowercase + string.digits


class Parts(NamedTuple):
    """The parts of one delta."""

    text: str
    thinking: str
    tool_calls: list[dict[str, Any]]


class Parsers:
    """Makes the parsers of one model's answers."""

    def __init__(self, family: ParserNames, tokenizer: Any, model_config: ModelConfig) -> None:
        self.family = family
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._classes: dict[tuple[bool, bool], type[Parser] | None] = {}

    def parser(self, chat: Chat, thinks: bool, shape: str | dict[str, Any] | None) -> AnswerParser | None:
        """Return the parser of one answer; None when the answer is plain content.

        Raises BadRequest when vLLM does not take the tools or the tool choice.
        """
        with_thinking, with_tools = thinks or self.family.always_thinks, bool(chat.tools)
        kind = self._class(with_thinking and bool(self.family.thinking), with_tools and bool(self.family.tools))
        if kind is None:
            return None
        request = _vllm_request(chat, thinks, shape)
        arguments = {"enable_thinking": thinks, "thinking": thinks}
        parser = kind(self._tokenizer, request.tools, chat_template_kwargs=arguments, model_config=self._model_config)
        return AnswerParser(parser, request)

    def _class(self, thinking: bool, tools: bool) -> type[Parser] | None:
        if (thinking, tools) not in self._classes:
            self._classes[thinking, tools] = ParserManager.get_parser(
                self.family.tools if tools else None,
                self.family.thinking if thinking else None,
                enable_auto_tools=tools,
                is_harmony=self.family.thinking == "openai_gptoss",
                tokenizer=self._tokenizer,
            )
        return self._classes[thinking, tools]


def structured(shape: str | dict[str, Any] | None) -> StructuredOutputsParams | None:
    """Return a Request's `format` in vLLM's terms."""
    if shape is None:
        return None
    return StructuredOutputsParams(json_object=True) if isinstance(shape, str) else StructuredOutputsParams(json=shape)


def _vllm_request(chat: Chat, thinks: bool, shape: str | dict[str, Any] | None) -> ChatCompletionRequest:
    """Return the request as vLLM's own server has it: vLLM's parsers read the tools and the choice from there."""
    fields: dict[str, Any] = {}
    if chat.tools:
        forced = {"type": "function", "function": {"name": chat.forced_tool}}
        fields["tools"] = [template_tool(tool) for tool in chat.tools]
        fields["tool_choice"] = forced if chat.forced_tool else chat.tool_choice
        fields["parallel_tool_calls"] = chat.parallel_tool_calls
    try:
        # An answer that must be a tool call can have no other format.
        outputs = structured(None if chat.forced_tool else shape)
        return ChatCompletionRequest(messages=[], include_reasoning=thinks, structured_outputs=outputs, **fields)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"tools: {_first_complaint(error)}") from None


class AnswerParser:
    """Parses one answer, delta by delta. Tool calls come out whole, as Ollama's clients expect them.

    `request` is vLLM's, with the constraints that its parser needs: with the tool choice "required" or a named tool,
    the answer is constrained to a call.
    """

    def __init__(self, parser: Parser, request: ChatCompletionRequest) -> None:
        self._parser = parser
        self.request = parser.adjust_request(request)
        self._token_ids: list[int] = []
        self._calls: dict[int, tuple[str, list[str]]] = {}
        self._prompt_ids: list[int] | None = None
        self._thinking, self._content = _Trimmed(), _Trimmed(keeps_tail=True)

    def begin(self, prompt_ids: list[int]) -> None:
        """Take the prompt, which shows whether the template has opened or closed the thinking."""
        self._prompt_ids = prompt_ids

    def reasoning_ended(self, prompt_ids: list[int]) -> bool | None:
        """Return whether a structured output begins with the first token; None when vLLM has to find out."""
        ended: bool | None = self.request.resolve_reasoning_ended(self._parser, prompt_ids)
        return ended

    def thinking_tokens(self) -> int:
        """Return how many of the answer's tokens belong to the thinking."""
        return int(self._parser.count_reasoning_tokens(self._token_ids))

    def feed(self, text: str, token_ids: Sequence[int], finished: bool) -> Parts:
        self._token_ids += token_ids
        delta = self._parser.parse_delta(text, list(token_ids), self.request, self._prompt_ids, finished=finished)
        self._prompt_ids = None
        if delta is None:
            return Parts("", "", self._whole_calls(keep=0) if finished else [])
        for fragment in delta.tool_calls or []:
            name, arguments = self._calls.setdefault(fragment.index, ("", []))
            if fragment.function is not None:
                self._calls[fragment.index] = (name or fragment.function.name or "", arguments)
                arguments.append(fragment.function.arguments or "")
        text = delta.content or ""
        if self.request.include_reasoning:
            text = self._content.feed(text)
        return Parts(text, self._thinking.feed(delta.reasoning or ""), self._whole_calls(keep=0 if finished else 1))

    def _whole_calls(self, keep: int) -> list[dict[str, Any]]:
        """Return the calls but for the last `keep`, which may go on; a call that was cut off is dropped."""
        indices = sorted(self._calls)
        calls = [(index, *self._calls.pop(index)) for index in indices[: len(indices) - keep]]
        if self.request.parallel_tool_calls is False:
            calls = [call for call in calls if call[0] == 0]
        return [call for index, name, arguments in calls if (call := _tool_call(index, name, "".join(arguments)))]


class _Trimmed:
    """Strips the white space around a text that comes in pieces, as Ollama's `thinking/parser.go` does."""

    def __init__(self, keeps_tail: bool = False) -> None:
        self._keeps_tail = keeps_tail
        self._begun = False
        self._space = ""

    def feed(self, piece: str) -> str:
        piece = self._space + piece
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        end = len(piece) if self._keeps_tail else len(piece.rstrip())
        self._space = piece[end:]
        return piece[:end]


def _tool_call(index: int, name: str, arguments: str) -> dict[str, Any] | None:
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        return None
    if not isinstance(values, dict) or not name:
        return None
    identity = "call_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    return {"id": identity, "function": {"index": index, "name": name, "arguments": values}}


def _first_complaint(error: Exception) -> str:
    """Return pydantic's first complaint in one line, and another error's text as it is."""
    complaints: list[Any] = getattr(error, "errors", list)()
    if not complaints:
        return str(error)
    place = ".".join(str(part) for part in complaints[0]["loc"])
    return f"{place}: {complaints[0]['msg']}"
