"""Splits one answer into thinking, content and whole tool calls, with vLLM's own parsers.

Nothing that the model wrote is lost without a reason: text that a parser swallows and that is not a whole call is
content. The result depends on the tokens alone, not on how many of them come at once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import Parser

from .parser_marks import call_envelope, is_engine_based, other_marks
from .raw_text import RawText, without_marks
from .stop_strings import StopStrings
from .token_text import TokenText
from .tool_calls import CallPieces, ParsedCall, call_record, is_json, parsed_call
from .trimmed_text import TrimmedText

logger = logging.getLogger("vllm_wsgi.worker")

_TAG = re.compile(r"</?[^<>]*>")


class AnswerEnd(Enum):
    """How vLLM ended an answer: at a token that the model chose, or at a limit."""

    TOKEN = "token"
    LIMIT = "limit"


class Stops(NamedTuple):
    """The stop strings of an answer. None counts in the first `min_tokens`; `include`: the answer ends behind one."""

    strings: list[str]
    min_tokens: int = 0
    include: bool = False


class Parts(NamedTuple):
    """The parts that some tokens are. `tokens` of them belong to the answer: fewer than were fed if `stop` ended it."""

    text: str
    thinking: str
    tool_calls: list[dict[str, Any]]
    tokens: int
    stop: str = ""


class _Extracted(NamedTuple):
    content: str
    calls: list[ParsedCall]


_NOTHING = _Extracted("", [])


class AnswerParser:
    """Parses one answer. Tool calls come out whole, as Ollama's clients expect them.

    `make_parser` makes a parser of vLLM's with an empty state. `request` is vLLM's, with the constraints that its
    parser needs: with the tool choice "required" or a named tool, the answer is constrained to a call. `constraint` is
    what vLLM constrains the answer to in the end. Unless the answer shows its thinking, the thinking is dropped.
    `tracked`: what the parser passes on can be found again in the text.
    """

    def __init__(
        self,
        make_parser: Callable[[], Parser],
        request: ChatCompletionRequest,
        tokenizer: Any,
        thinks: bool,
        shows_thinking: bool = True,
        tracked: bool = True,
    ) -> None:
        self._make_parser = make_parser
        self._parser = make_parser()
        self.request = self._parser.adjust_request(request)
        self.constraint = self.request.extract_structured_outputs()
        self._tokenizer = tokenizer
        self._thinks = thinks
        self._shows_thinking = thinks and shows_thinking
        self._tracked = tracked
        self._tokens: TokenText | None = None
        self._prompt_ids: list[int] | None = None
        self._envelope = call_envelope(self._parser)
        self._marks = other_marks(self._parser, tokenizer)
        self._raw = RawText(self._marks)
        self._calls = CallPieces()
        self._call_count = 0
        self._token_ids: list[int] = []
        self._thinking = TrimmedText()
        self._content = TrimmedText(keeps_tail=True) if self._parser.reasoning_parser is not None else None
        # The text that the model has written since the parser reported a piece of a call.
        self._since_call = ""
        self._failed = False
        self._stop = ""
        self._text, self._thought = "", ""
        self._records: list[dict[str, Any]] = []

    def begin(self, prompt_ids: list[int], stops: Stops) -> None:
        """Take the prompt, which shows whether the template has opened or closed the thinking."""
        self._prompt_ids = prompt_ids
        self._stops = StopStrings(stops.strings, stops.include)
        self._min_tokens = stops.min_tokens

    def reasoning_ended(self, prompt_ids: list[int]) -> bool | None:
        """Return whether a structured output begins with the first token; None when vLLM has to find out."""
        if not self._thinks:
            return True
        ended: bool | None = self.request.resolve_reasoning_ended(self._parser, prompt_ids)
        return ended

    @property
    def must_end_thought(self) -> bool:
        """Whether no end is right within the thought. GPT-OSS ends a call there with a token that ends the answer."""
        return self._thinks and self._tracked and self.constraint is not None

    def barred_ids(self) -> list[int]:
        """Return the tokens that would end the thinking with a call, where the constraint has no place for a call.

        vLLM applies its grammar from such a token on, and fails a request whose grammar does not take it.
        """
        has_calls = self.request.tools and self.request.tool_choice != "none"
        if not self._thinks or self.constraint is None or has_calls:
            return []
        reasoner: Any = self._parser.reasoning_parser
        ends = (
            (each, reasoner.find_reasoning_end([each])) for each in getattr(reasoner, "reasoning_end_token_ids", ())
        )
        return [each for each, end in ends if end is not None and end.implicit]

    def thinking_tokens(self) -> int:
        """Return how many of the answer's tokens belong to the thinking."""
        return int(self._parser.count_reasoning_tokens(self._token_ids))

    def feed(self, token_ids: Sequence[int], end: AnswerEnd | None = None) -> Parts:
        """Take the next tokens; with `end` they are the last. A token that ends the answer adds no text."""
        if self._tokens is None:
            # Only now has vLLM looked at the prompt, which may have numbers in it that are not token ids.
            self._tokens = TokenText(self._tokenizer, self._prompt_ids or [], self.request.skip_special_tokens)
        fed = 0
        for token_id in token_ids:
            fed += 1
            ends = end is AnswerEnd.TOKEN and fed == len(token_ids)
            self._token_ids.append(token_id)
            self._take(self._tokens.next(token_id, ends), token_id)
            if self._stop:
                break
        if end is not None and not self._stop:
            self._finish(end)
        parts = Parts(self._text, self._thought, self._records, fed, self._stop)
        self._text, self._thought, self._records = "", "", []
        return parts

    def _take(self, text: str, token_id: int) -> None:
        if self._tracked:
            self._raw.add(text)
        self._since_call += text
        if (delta := self._parse(text, [token_id])) is not None:
            self._sort(delta)
        while self._envelope is not None and (call := self._raw.take_call(self._envelope)) is not None:
            self._settle(call)

    def _finish(self, end: AnswerEnd) -> None:
        """Flush what the parser holds back. A call that a limit has cut off stays text."""
        if (delta := self._parse("", [], finished=True)) is not None:
            if end is AnswerEnd.LIMIT:
                delta.tool_calls = []
            self._sort(delta)
        self._settle(self._raw.take_rest(), end)
        self._text += self._stops.flush()

    def _parse(self, text: str, token_ids: list[int], finished: bool = False) -> Any:
        """Return what vLLM's parser makes of the text. Once it has failed, all text is content."""
        prompt_ids, self._prompt_ids = self._prompt_ids, None
        if not self._failed:
            try:
                return self._parser.parse_delta(text, token_ids, self.request, prompt_ids, finished=finished)
            except Exception:
                logger.exception("vLLM's parser failed: the rest of the answer is sent as content")
                self._failed, self._calls = True, CallPieces()
                self._add_content(without_marks(self._raw.take_rest(), self._marks))
        self._add_content(self._raw.take_rest())
        return None

    def _sort(self, delta: Any) -> None:
        """Take what the parser has made of some text: more of the calls that have begun, text, then new calls."""
        newest, fragments = self._calls.newest, delta.tool_calls or []
        self._add([fragment for fragment in fragments if fragment.index <= newest])
        if delta.reasoning:
            self._settle(self._swallowed_before(delta.reasoning))
            thought = self._thinking.feed(delta.reasoning)
            self._thought += thought if self._shows_thinking else ""
        if delta.content:
            self._settle(self._swallowed_before(delta.content))
            self._add_content(delta.content)
        self._add([fragment for fragment in fragments if fragment.index > newest])

    def _add(self, fragments: list[Any]) -> None:
        for fragment in fragments:
            if self._calls and fragment.index > self._calls.newest and self._envelope is None:
                # Nothing marks the end of this call but the beginning of the next one.
                self._settle(self._raw.take_rest())
            if (function := fragment.function) is not None:
                self._calls.add(fragment.index, function.name or "", function.arguments or "")
            self._since_call = ""

    def _swallowed_before(self, piece: str) -> str:
        if not self._tracked:
            return ""
        swallowed = self._raw.pass_on(piece, behind_call=bool(self._calls))
        if swallowed is None:
            self._tracked = False
            self._raw.take_rest()
        return swallowed or ""

    def _settle(self, text: str, end: AnswerEnd | None = None) -> None:
        """Make calls of what the parser has swallowed, or content where it holds no whole call."""
        before, text = self._call_apart(text)
        self._add_content(without_marks(before, self._marks))
        if not self._calls and not text:
            return
        calls = self._calls.take()
        whole = [call for call in calls if call is not None]
        if end is AnswerEnd.LIMIT and not self._is_whole(text):
            self._add_content(text)
        elif whole and len(whole) == len(calls):
            self._call(whole)
            self._add_content(self._behind_call(text))
        elif (extracted := self._extracted(text)).calls:
            self._calls.skip(max(0, len(extracted.calls) - len(calls)))
            self._add_content(extracted.content)
            self._call(extracted.calls)
        elif calls or self._envelope is not None:
            logger.warning("a tool call of %d characters does not parse: its text is sent as content", len(text))
            self._add_content(text)
        else:
            self._add_content(text)

    def _call_apart(self, text: str) -> tuple[str, str]:
        """Return the text before a call, and the call as far as the model has written it."""
        if self._envelope is not None and self._envelope.begin in text:
            before, begin, call = text.partition(self._envelope.begin)
            return before, begin + call
        if self._calls or (self._envelope is None and self._parser.tool_parser is not None):
            return "", without_marks(text, self._marks)
        return text, ""

    def _behind_call(self, text: str) -> str:
        """Return what the model has written behind a call that nothing marks the end of."""
        behind = self._since_call
        if self._envelope is not None or not text.endswith(behind):
            return ""
        readable = _TAG.sub("", without_marks(behind, self._marks))
        return behind if any(character.isalnum() for character in readable) else ""

    def _is_whole(self, text: str) -> bool:
        """Return whether a limit came behind the end of a call, and not inside it."""
        if self._envelope is not None and self._envelope.begin in text:
            return False
        return is_json(text) or (not is_engine_based(self._parser) and bool(self._extracted(text).calls))

    def _extracted(self, text: str) -> _Extracted:
        """Return the calls that vLLM finds in the text as a whole; none when it finds none, or one is broken."""
        tool_parser = self._make_parser().tool_parser
        if tool_parser is None:
            return _NOTHING
        section = getattr(tool_parser, "tool_calls_start_token", "")
        if isinstance(section, str) and section not in text:
            text = section + text
        try:
            found = tool_parser.extract_tool_calls(text, self.request)
        except Exception:
            # vLLM has a parser for each family of models, and they raise errors of many kinds.
            logger.debug("vLLM's parser failed on a tool call", exc_info=True)
            return _NOTHING
        calls = [parsed_call(call.function.name, call.function.arguments) for call in found.tool_calls or []]
        whole = [call for call in calls if call is not None]
        return _Extracted(found.content or "", whole) if len(whole) == len(calls) else _NOTHING

    def _call(self, calls: list[ParsedCall]) -> None:
        for call in calls:
            if not self._call_count or self.request.parallel_tool_calls is not False:
                self._records.append(call_record(self._call_count, call))
                self._call_count += 1

    def _add_content(self, text: str) -> None:
        if self._content is not None:
            text = self._content.feed(text)
        if text and not self._stop:
            result = self._stops.feed(text, len(self._token_ids) > self._min_tokens)
            self._text += result.text
            self._stop = result.stop
