"""Turns vLLM's outputs into the deltas and the end of each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput

from ...errors import EngineFailure, EngineGone
from ...protocol.events import Delta, Finished, TokenLogprob
from ...protocol.request import Infill, Request, SoFar, Text
from .answer_parser import AnswerParser
from .failures import ENGINE_GONE

_HAS_NOTHING = SoFar([])


class Answers:
    """The answers to one request, which vLLM generates side by side. `decode` is the tokenizer's method."""

    def __init__(
        self,
        id: int,
        request: Request,
        parsers: list[AnswerParser | None],
        prompt_ids: list[int],
        decode: Callable[[list[int]], str],
    ) -> None:
        self._answers = [
            _SequenceAnswer(id, index, request, parser, prompt_ids) for index, parser in enumerate(parsers)
        ]
        self._request = request
        self._decode = decode
        self._echoes = request.echo

    def events(self, output: RequestOutput) -> Iterator[Delta | Finished]:
        """Return the events of one output. Raises EngineGone and EngineFailure: vLLM reports some failures as ends."""
        if self._echoes:
            self._echoes = False
            yield from self._prompt(output)
        for completion in output.outputs:
            yield from self._answers[completion.index].events(output, completion)

    def _prompt(self, output: RequestOutput) -> Iterator[Delta]:
        prompt, ids = self._request.prompt, output.prompt_token_ids or []
        if isinstance(prompt, Infill):
            text = prompt.prefix
        else:
            text = prompt.text if isinstance(prompt, Text) else self._decode(ids)
        logprobs: list[TokenLogprob] = []
        if self._request.logprobs is not None and self._request.so_far is None:
            # The first token has no probability, since nothing precedes it.
            logprobs = _logprobs(ids[1:], (output.prompt_logprobs or [None])[1:], self._request.logprobs)
            logprobs.insert(0, TokenLogprob(self._decode(ids[:1]), None))
        for answer in self._answers:
            yield answer.prompt(text, logprobs)


class _SequenceAnswer:
    def __init__(
        self, id: int, index: int, request: Request, parser: AnswerParser | None, prompt_ids: list[int]
    ) -> None:
        self._id, self._index = id, index
        self._parser = parser
        self._logprobs = request.logprobs
        self._prompt_ids = prompt_ids if request.return_context else []
        # vLLM always generates at least one token. When the client asked for none, that token is dropped.
        self._silent = request.echo and request.sampling.max_tokens == 0
        self._seq = 0
        self._client_has = request.so_far
        if parser is not None:
            parser.begin(prompt_ids)

    def prompt(self, text: str, logprobs: list[TokenLogprob]) -> Delta:
        delta = Delta(self._id, 0, text, [], logprobs=logprobs, index=self._index)
        if self._client_has is not None:
            self._leave_out(delta, self._client_has)
        return delta

    def events(self, output: RequestOutput, completion: CompletionOutput) -> Iterator[Delta | Finished]:
        finished = completion.finish_reason is not None
        # A token can end inside a character: it adds no text yet, but it counts.
        reported = completion.token_ids or completion.text or (finished and self._parser is not None)
        if reported and not self._silent:
            yield self._delta(output, completion, finished)
            self._seq += len(completion.token_ids)
        if finished:
            yield self._finished(output, completion)

    def _delta(self, output: RequestOutput, completion: CompletionOutput, finished: bool) -> Delta:
        delta = Delta(self._id, self._seq, completion.text, list(completion.token_ids), index=self._index)
        if not self._seq:
            delta.prompt_tokens = len(output.prompt_token_ids or [])
        if self._parser is not None:
            parts = self._parser.feed(completion.text, delta.token_ids, finished)
            delta.text, delta.thinking, delta.tool_calls = parts
        if self._logprobs is not None:
            logprobs = completion.logprobs or []
            # The tokens that another engine generated have none here.
            ids = delta.token_ids[len(delta.token_ids) - len(logprobs) :]
            delta.logprobs = _logprobs(ids, logprobs, self._logprobs)
        if self._client_has is not None:
            self._leave_out(delta, self._client_has)
        return delta

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

    def _finished(self, output: RequestOutput, completion: CompletionOutput) -> Finished:
        """Return the end of the answer. Raises EngineGone and EngineFailure, which vLLM reports as ends."""
        if completion.finish_reason == "abort":
            # We abort by closing the iterator, so an engine that shuts down has aborted this answer.
            raise EngineGone(ENGINE_GONE)
        if completion.finish_reason == "error":
            raise EngineFailure("an error was encountered while running the model")
        timing = output.metrics
        assert timing is not None, "vLLM keeps no metrics: disable_log_stats must stay off"
        return Finished(
            self._id,
            "length" if completion.finish_reason == "length" else "stop",
            len(output.prompt_token_ids or []),
            self._seq,
            output.num_cached_tokens or 0,
            _nanoseconds(timing.scheduled_ts - timing.queued_ts),
            _nanoseconds(timing.first_token_ts - timing.scheduled_ts),
            _nanoseconds(timing.last_token_ts - timing.first_token_ts),
            self._prompt_ids,
            self._index,
            # vLLM names a token that ended the answer by its id, a stop string by its text.
            completion.stop_reason if isinstance(completion.stop_reason, str) else "",
            0 if self._parser is None else self._parser.thinking_tokens(),
        )


def _logprobs(
    token_ids: Iterable[int], choices: Iterable[Mapping[int, Logprob] | None], alternatives: int
) -> list[TokenLogprob]:
    """Return one entry for each token, with its alternatives, the most probable first."""
    tokens = []
    for token_id, ranked in zip(token_ids, choices, strict=False):
        if ranked is not None:
            token = _token_logprob(ranked[token_id])
            others = sorted(ranked.values(), key=lambda choice: -choice.logprob)
            token.top_logprobs = [_token_logprob(choice) for choice in others[:alternatives]]
            tokens.append(token)
    return tokens


def _token_logprob(choice: Logprob) -> TokenLogprob:
    token = choice.decoded_token or ""
    return TokenLogprob(token, choice.logprob, list(token.encode()))


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
