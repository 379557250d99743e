"""Makes the parsers of one model's answers."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import msgspec
from vllm.config import ModelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError
from vllm.parser import Parser, ParserManager

from ...errors import BadRequest
from ...models.parser_names import ParserNames
from ...protocol.request import Chat
from .answer_parser import AnswerParser
from .grammars import Grammars
from .render import template_tool

# The name of vLLM's reasoning parser for GPT-OSS, whose format is called Harmony.
_HARMONY = "openai_gptoss"


class Parsers:
    """Makes a parser for each answer of one model."""

    def __init__(
        self, family: ParserNames, tokenizer: Any, model_config: ModelConfig | None, grammars: Grammars
    ) -> None:
        self.family = family
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._grammars = grammars
        self._classes: dict[tuple[bool, bool, str], type[Parser] | None] = {}
        # vLLM logs the whole text of a call that does not parse, with a trace. We log one line.
        logging.getLogger("vllm.tool_parsers").setLevel(logging.CRITICAL)

    def parser(self, chat: Chat, thinks: bool, constraint: Any = None) -> AnswerParser | None:
        """Return the parser of one answer; None when the answer is plain content.

        `constraint` is what the answer must fit, in vLLM's terms. Raises BadRequest when vLLM does not take the tools
        or the tool choice.
        """
        must_call = bool(chat.forced_tool) or chat.tool_choice == "required"
        # A constraint holds from the first token on unless the answer thinks, so that there is no thinking to read.
        with_thinking = thinks or (self.family.always_thinks and constraint is None and not must_call)
        # With a call's marks in the grammar, an answer can be a call or what the schema asks for.
        level = "function" if constraint is not None and chat.tools else "auto"
        if must_call or level == "function":
            # Where a grammar writes the call anyway, weak models need it for the arguments, too: any JSON will not do.
            with suppress(BadRequest):
                return self._parser(chat, thinks, with_thinking, constraint, "parameter")
            # One tool without a grammar does not free the arguments of the others.
            loosened = msgspec.structs.replace(chat, tools=self._grammars.loosened(_templated(chat)))
            with suppress(BadRequest):
                return self._parser(loosened, thinks, with_thinking, constraint, "parameter")
        try:
            return self._parser(chat, thinks, with_thinking, constraint, level)
        except BadRequest as error:
            raise self._grammars.named(_templated(chat), error) from None

    def _parser(
        self, chat: Chat, thinks: bool, with_thinking: bool, constraint: Any, level: str
    ) -> AnswerParser | None:
        """Return the parser with vLLM's `tool_strict_level`. Raises BadRequest, also for a schema without a grammar."""
        kind = self._class(
            with_thinking and bool(self.family.thinking), bool(chat.tools) and bool(self.family.tools), level
        )
        if kind is None:
            return None
        request = _vllm_request(chat, constraint)
        arguments = {"enable_thinking": thinks, "thinking": thinks}

        def make() -> Parser:
            return kind(self._tokenizer, request.tools, chat_template_kwargs=arguments, model_config=self._model_config)

        parser = AnswerParser(
            make, request, self._tokenizer, thinks, chat.show_thinking, tracked=self.family.thinking != _HARMONY
        )
        parser.constraint = self._grammars.bounded(parser.constraint)
        return parser

    def _class(self, thinking: bool, tools: bool, level: str) -> type[Parser] | None:
        key = thinking, tools, level
        if key not in self._classes:
            self._classes[key] = ParserManager.get_parser(
                self.family.tools if tools else None,
                self.family.thinking if thinking else None,
                enable_auto_tools=tools,
                is_harmony=self.family.thinking == _HARMONY,
                tool_strict_level=level,
                tokenizer=self._tokenizer,
            )
        return self._classes[key]


def _templated(chat: Chat) -> list[dict[str, Any]]:
    return [template_tool(tool) for tool in chat.tools]


def _vllm_request(chat: Chat, constraint: Any) -> ChatCompletionRequest:
    """Return the request as vLLM's own server has it: vLLM's parsers read the tools and the choice from there."""
    fields: dict[str, Any] = {}
    if chat.tools:
        forced = {"type": "function", "function": {"name": chat.forced_tool}}
        fields["tools"] = [_with_object(tool) for tool in _templated(chat)]
        fields["tool_choice"] = forced if chat.forced_tool else chat.tool_choice
        fields["parallel_tool_calls"] = chat.parallel_tool_calls
    try:
        # An answer that must be a tool call can have no other format.
        outputs = None if chat.forced_tool else constraint
        return ChatCompletionRequest(messages=[], structured_outputs=outputs, **fields)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"tools: {_first_complaint(error)}") from None
    except VLLMClientError as error:
        # vLLM bounds how deeply a structural tag is nested.
        raise BadRequest(f"invalid constraint: {error}") from None


def _with_object(tool: dict[str, Any]) -> dict[str, Any]:
    """Return the tool with arguments that are an object, which a client may leave out."""
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(function.get("parameters") or {}, dict):
        return tool
    return {**tool, "function": {**function, "parameters": {"type": "object", **(function.get("parameters") or {})}}}


def _first_complaint(error: Exception) -> str:
    """Return pydantic's first complaint in one line, and another error's text as it is."""
    complaints: list[Any] = getattr(error, "errors", list)()
    if not complaints:
        return str(error)
    place = ".".join(str(part) for part in complaints[0]["loc"])
    return f"{place}: {complaints[0]['msg']}"
