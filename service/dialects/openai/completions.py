"""Turn the body of `POST /v1/completions` into a call, and events into its chunks.

A prompt is continued without a chat template. There may be several prompts, each with `n` answers. It never knows how
its records are framed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import msgspec

from ...errors import BadRequest
from ...protocol.events import Delta, Finished, TokenLogprob
from ...protocol.request import Infill, Request, Sampling, Text, Tokens
from ...syntax.numbers import as_integers
from ..bounds import MAX_ALTERNATIVES, MAX_PROMPTS
from ..fields import Fields
from ..keeping import parse_keeping
from ..vllm_fields import COMPLETIONS, refuse_unsupported
from .answer import OpenAIAnswer
from .constraints import parse_response_format, with_vllms
from .parameters import (
    OPENAI_DEFAULTS,
    OpenAICall,
    check_alternatives,
    integer,
    parse_n,
    parse_request_id,
    parse_sampling,
    parse_stream,
    truncation,
)


def parse_completion(body: dict[str, Any]) -> OpenAICall:
    """Parse the body. Raise BadRequest."""
    fields = Fields(body, "CompletionRequest")
    refuse_unsupported(fields, COMPLETIONS)
    model = fields.model()
    keeping = parse_keeping(fields)
    stream = parse_stream(fields, keeping)
    echo, suffix, n = fields.boolean("echo", False), fields.string("suffix"), parse_n(fields)
    best_of = integer(fields, "best_of")
    if best_of is not None and best_of > n:
        raise BadRequest("best_of is not supported", param="best_of", code="unsupported_parameter")
    if best_of is not None and best_of < n:
        raise BadRequest(f"best_of must not be less than n, which is {n}", param="best_of")
    sampling, logprobs = _sampling(fields, echo), _logprobs(fields)
    check_alternatives(logprobs, n, "logprobs")
    form, constraint = with_vllms(fields, parse_response_format(fields))
    prompt_tokens, keep_start = truncation(fields)
    requests = [
        Request(
            model,
            _with_suffix(prompt, suffix),
            sampling,
            OPENAI_DEFAULTS,
            truncate=False,
            format=form,
            logprobs=logprobs,
            n=n,
            echo=echo,
            constraint=constraint,
            prompt_tokens=prompt_tokens,
            keep_start=keep_start,
        )
        for prompt in _prompts(fields.get("prompt"), n)
    ]
    return OpenAICall(
        model,
        requests,
        n,
        stream.stream,
        stream.include_usage,
        request_id=parse_request_id(fields),
        keeping=keeping,
        continuous_usage=stream.continuous_usage,
    )


def _prompts(value: Any, n: int) -> list[Text | Tokens]:
    """Return the prompts of a text, of token ids, or of a list of either."""
    if isinstance(value, list) and value and not any(isinstance(item, (int, float)) for item in value):
        for count, name in ((len(value), "prompts"), (len(value) * n, "prompts times n")):
            if count > MAX_PROMPTS:
                raise BadRequest(f"prompt must hold at most {MAX_PROMPTS} {name}", param="prompt")
        return [_prompt(item) for item in value]
    return [_prompt(value)]


def _prompt(value: Any) -> Text | Tokens:
    if value is None or isinstance(value, str):
        return Text(value or "")
    ids = as_integers(value) if isinstance(value, list) else [None]
    if None in ids or min(cast("list[int]", ids), default=0) < 0:
        raise BadRequest("prompt must be a string, token ids, or a list of either", param="prompt")
    return Tokens(cast("list[int]", ids))


def _with_suffix(prompt: Text | Tokens, suffix: str) -> Text | Tokens | Infill:
    if not suffix:
        return prompt
    if isinstance(prompt, Tokens):
        raise BadRequest("suffix needs a prompt that is a string", param="suffix")
    return Infill(prompt.text, suffix)


def _sampling(fields: Fields, echo: bool) -> Sampling:
    # A client that wants only the prompt's log probabilities asks for an echo and for no token.
    at_least = 0 if echo else 1
    # OpenAI's chats have the second name, and benchmarks (guidellm) send both.
    limits = [integer(fields, name, at_least) for name in ("max_tokens", "max_completion_tokens")]
    limit = next((limit for limit in limits if limit is not None), None)
    return msgspec.structs.replace(parse_sampling(fields), max_tokens=limit)


def _logprobs(fields: Fields) -> int | None:
    alternatives = integer(fields, "logprobs")
    if alternatives is not None and not 0 <= alternatives <= MAX_ALTERNATIVES:
        raise BadRequest(f"logprobs must be between 0 and {MAX_ALTERNATIVES}", param="logprobs")
    return alternatives


class CompletionLogprobs(msgspec.Struct):
    """Lists with an entry for each token. `text_offset` is in characters, from the beginning of the text."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(msgspec.Struct):
    """One answer, or the piece of it that is new."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class CompletionAnswer(OpenAIAnswer):
    """The records of `POST /v1/completions`."""

    verb = "generate"
    prefix = "cmpl"
    object = chunk_object = "text_completion"

    def __init__(self, call: OpenAICall, now: Callable[[], float] = time.time) -> None:
        super().__init__(call, now)
        self._offsets: dict[int, int] = {}

    def _choices(self, delta: Delta) -> list[CompletionChoice]:
        if not delta.text and not delta.logprobs:
            return []
        return [CompletionChoice(delta.text, delta.index, self._logprobs(delta) if delta.logprobs else None)]

    def _logprobs(self, delta: Delta) -> CompletionLogprobs:
        """Return the tokens of a delta. They come before text that may be the beginning of a stop string."""
        offset = self._offsets.get(delta.index, 0)
        self._offsets[delta.index] = offset + sum(len(token.token) for token in delta.logprobs)
        return _lists(delta.logprobs, offset)

    def _last(self, finished: Finished) -> list[CompletionChoice]:
        return [CompletionChoice("", finished.index, finish_reason=finished.reason)]

    def _whole(self, index: int, choices: list[CompletionChoice]) -> CompletionChoice:
        parts = [choice.logprobs for choice in choices if choice.logprobs]
        logprobs = CompletionLogprobs(
            [offset for part in parts for offset in part.text_offset],
            [logprob for part in parts for logprob in part.token_logprobs],
            [token for part in parts for token in part.tokens],
            [alternatives for part in parts for alternatives in part.top_logprobs],
        )
        text = "".join(choice.text for choice in choices)
        return CompletionChoice(text, index, logprobs if parts else None, choices[-1].finish_reason)


def _lists(tokens: list[TokenLogprob], offset: int) -> CompletionLogprobs:
    lists = CompletionLogprobs([], [], [], [])
    for token in tokens:
        lists.text_offset.append(offset)
        lists.token_logprobs.append(token.logprob)
        lists.tokens.append(token.token)
        alternatives = {each.token: each.logprob for each in token.top_logprobs if each.logprob is not None}
        lists.top_logprobs.append(alternatives or None)
        offset += len(token.token)
    return lists
