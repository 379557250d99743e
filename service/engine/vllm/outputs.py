"""Turns vLLM's outputs into the deltas and the end of each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput

from ...errors import BadRequest, EngineFailure, EngineGone
from ...protocol.events import Delta, Finished, TokenLogprob
from ...protocol.request import Infill, Request, SoFar, Text
from .answer_parser import AnswerEnd, AnswerParser, Stops
from .failures import ENGINE_GONE

# What OpenAI reports for a token that is very improbable.
LEAST_LOGPROB = -9999.0

_HAS_NOTHING = SoFar([])


class Answers:
    """The answers to one request, which vLLM generates side by side.

    `stops` end the answers that have a parser; vLLM ends the others. `decode` is the tokenizer's method.
    `prompt_scores` are the log probabilities of the prompt behind its first token, where the answers don't bring them.
    """

    def __init__(
        self,
        id: int,
        request: Request,
        parsers: list[AnswerParser | None],
        prompt_ids: list[int],
        stops: Stops,
        decode: Callable[[list[int]], str],
        prompt_scores: list[TokenLogprob] | None = None,
    ) -> None:
        self._answers = [
            _SequenceAnswer(id, index, request, parser, prompt_ids, stops) for index, parser in enumerate(parsers)
        ]
        self._request = request
        self._decode = decode
        self._prompt_scores = prompt_scores
        self._echoes = request.echo

    @property
    def ended(self) -> bool:
        return all(answer.ended for answer in self._answers)

    def events(self, output: RequestOutput) -> Iterator[Delta | Finished]:
        """Return the events of one output. Raises EngineGone and EngineFailure: vLLM reports some failures as ends."""
        if self._echoes:
            self._echoes = False
            yield from self._prompt(output)
        for completion in output.outputs:
            yield from self._answers[completion.index].events(output, completion)

    def is_plain(self) -> bool:
        """Return whether `more` can take the next tokens: there is one answer, begun, without stops."""
        return len(self._answers) == 1 and self._answers[0].is_plain()

    def more(self, detokenizer: Any, token_ids: Sequence[int]) -> Delta:
        """Return the delta of a plain answer's next tokens, of which none ends it. `detokenizer` is vLLM's."""
        return self._answers[0].more(detokenizer, token_ids)

    def _prompt(self, output: RequestOutput) -> Iterator[Delta]:
        prompt, ids = self._request.prompt, output.prompt_token_ids or []
        if isinstance(prompt, Infill):
            text = prompt.prefix
        else:
            text = prompt.text if isinstance(prompt, Text) else self._decode(ids)
        logprobs: list[TokenLogprob] = []
        # A client whose answer has moved has those of the prompt already.
        if self._request.logprobs is not None and self._request.so_far is None:
            # The first token has no probability, since nothing precedes it.
            scores = self._prompt_scores
            if scores is None:
                choices = islice(output.prompt_logprobs or (), 1, None)
                scores = token_logprobs(ids[1:], choices, self._request.logprobs)
            logprobs = [TokenLogprob(self._decode(ids[:1]), None), *scores]
        for answer in self._answers:
            yield answer.prompt(text, logprobs)


class _SequenceAnswer:
    def __init__(
        self, id: int, index: int, request: Request, parser: AnswerParser | None, prompt_ids: list[int], stops: Stops
    ) -> None:
        self._id, self._index = id, index
        self._parser = parser
        self._logprobs = request.logprobs
        self._prompt_ids = prompt_ids if request.return_context else []
        # vLLM always generates at least one token. When the client asked for none, that token is dropped.
        self._silent = request.sampling.max_tokens == 0
        self._seq = 0
        self.ended = False
        self._client_has = request.so_far
        self._constrained = request.format is not None or request.constraint is not None
        self._can_stop = bool(stops.strings)
        if parser is not None:
            parser.begin(prompt_ids, stops)

    def prompt(self, text: str, logprobs: list[TokenLogprob]) -> Delta:
        delta = Delta(self._id, 0, text, [], logprobs=logprobs, index=self._index)
        if self._client_has is not None:
            self._leave_out(delta, self._client_has)
        return delta

    def events(self, output: RequestOutput, completion: CompletionOutput) -> Iterator[Delta | Finished]:
        if self.ended:
            # A stop string has ended it, and vLLM goes on until the other answers have ended, too.
            return
        check_end(completion, begun=bool(self._seq), constrained=self._constrained)
        self.ended = completion.finish_reason is not None
        stop = completion.stop_reason if isinstance(completion.stop_reason, str) else ""
        delta = Delta(self._id, self._seq, completion.text, list(completion.token_ids), index=self._index)
        if self._parser is not None:
            stop = self._parse(self._parser, delta, completion)
            self.ended = self.ended or bool(stop)
        # A token can end inside a character: it adds no text yet, but it counts.
        reported = delta.token_ids or completion.text or (self.ended and self._parser is not None)
        if reported and not self._silent:
            if not self._seq:
                delta.prompt_tokens = len(output.prompt_token_ids or [])
            if self._logprobs is not None:
                logprobs = completion.logprobs or []
                # The tokens that another engine generated have none here.
                others = len(completion.token_ids) - len(logprobs)
                delta.logprobs = token_logprobs(delta.token_ids[others:], logprobs, self._logprobs)
            self._seq += len(delta.token_ids)
            if self._client_has is not None:
                self._leave_out(delta, self._client_has)
            yield delta
        if self.ended:
            reason = "length" if completion.finish_reason == "length" and not stop else "stop"
            yield self._finished(output, reason, stop)

    def is_plain(self) -> bool:
        has_extras = self._logprobs is not None or self._client_has is not None
        return bool(self._seq) and not (self._can_stop or has_extras or self.ended)

    def more(self, detokenizer: Any, token_ids: Sequence[int]) -> Delta:
        delta = Delta(self._id, self._seq, "", list(token_ids), index=self._index)
        if self._parser is None:
            # As `BaseIncrementalDetokenizer.update`, but for the whole text, which only stop strings need.
            for token_id in token_ids:
                detokenizer.token_ids.append(token_id)
                delta.text += detokenizer.decode_next(token_id)
        else:
            detokenizer.update(token_ids, False)
            parts = self._parser.feed(token_ids)
            delta.text, delta.thinking, delta.tool_calls = parts.text, parts.thinking, parts.tool_calls
        self._seq += len(token_ids)
        return delta

    def _parse(self, parser: AnswerParser, delta: Delta, completion: CompletionOutput) -> str:
        """Put the parts of the tokens into the delta. Return the stop string that ended the answer, or an empty one."""
        end = None
        if completion.finish_reason is not None:
            end = AnswerEnd.TOKEN if completion.finish_reason == "stop" else AnswerEnd.LIMIT
        parts = parser.feed(delta.token_ids, end)
        delta.text, delta.thinking, delta.tool_calls = parts.text, parts.thinking, parts.tool_calls
        del delta.token_ids[parts.tokens :]
        return parts.stop

    def _leave_out(self, delta: Delta, has: SoFar) -> None:
        """Take out of a delta what the client has; the first delta of a moved request covers all tokens so far.

        Text may lag behind the tokens, since stop strings and parsers hold it back, so lengths are counted down.
        """
        tokens = min(len(has.token_ids), len(delta.token_ids))
        delta.token_ids = delta.token_ids[tokens:]
        delta.seq += tokens
        text, thinking = min(has.text, len(delta.text)), min(has.thinking, len(delta.thinking))
        calls = min(has.calls, len(delta.tool_calls))
        delta.text, delta.thinking = delta.text[text:], delta.thinking[thinking:]
        delta.tool_calls = delta.tool_calls[calls:]
        left = SoFar(has.token_ids[tokens:], has.text - text, has.thinking - thinking, has.calls - calls)
        self._client_has = left if left != _HAS_NOTHING else None

    def _finished(self, output: RequestOutput, reason: str, stop: str) -> Finished:
        timing = output.metrics
        assert timing is not None, "vLLM keeps no metrics: disable_log_stats must stay off"
        return Finished(
            self._id,
            reason,
            len(output.prompt_token_ids or []),
            self._seq,
            output.num_cached_tokens or 0,
            _nanoseconds(timing.scheduled_ts - timing.queued_ts),
            _nanoseconds(timing.first_token_ts - timing.scheduled_ts),
            _nanoseconds(timing.last_token_ts - timing.first_token_ts),
            self._prompt_ids,
            self._index,
            stop,
            0 if self._parser is None else self._parser.thinking_tokens(),
        )


def check_end(completion: CompletionOutput, begun: bool = False, constrained: bool = False) -> None:
    """Raise EngineGone or EngineFailure, which vLLM reports as ends, or BadRequest for a constraint."""
    if completion.finish_reason == "abort":
        # We abort by closing the iterator, so an engine that shuts down has aborted this answer.
        raise EngineGone(ENGINE_GONE)
    if completion.finish_reason == "error" and constrained and not begun:
        # vLLM ends a request in this way when the grammar of its constraint can't be compiled for this vocabulary.
        raise BadRequest("the format or the constraint of the answer can't be compiled for this model")
    if completion.finish_reason == "error":
        raise EngineFailure("an error was encountered while running the model")


def token_logprobs(
    token_ids: Iterable[int], choices: Iterable[Mapping[int, Logprob] | None], alternatives: int
) -> list[TokenLogprob]:
    """Return one entry for each token, with its alternatives, the most probable first."""
    tokens = []
    for token_id, ranked in zip(token_ids, choices, strict=False):
        if ranked is not None:
            token = _token_logprob(ranked[token_id])
            others = sorted(ranked.values(), key=lambda choice: -choice.logprob)
            token.top_logprobs = tuple(map(_token_logprob, others[:alternatives]))
            tokens.append(token)
    return tokens


def _token_logprob(choice: Logprob) -> TokenLogprob:
    token = choice.decoded_token or ""
    # A token that a grammar rules out has a probability of 0; JSON has no number for its logarithm. NaN is not >=.
    logprob = choice.logprob if choice.logprob >= LEAST_LOGPROB else LEAST_LOGPROB
    return TokenLogprob(token, logprob, tuple(token.encode()))


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
