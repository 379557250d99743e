"""The base of the answers of OpenAI's chat and completions: usage, errors and records.

It never knows how its records are framed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import ClientTooSlow, HTTPRefusal, PayloadTooLarge, PromptTooLong, ServiceError, UnsupportedCoding
from ...protocol.events import Delta, Event, Finished, Located
from .. import answer
from ..plain_text import HOLE, PlainText, Shape
from .parameters import OpenAICall

FINGERPRINT = "fp_ollama"

# The types that Ollama's NewError has for a status, and the one that OpenAI's clients know for limits.
_ERROR_TYPES = {404: "not_found_error", 429: "rate_limit_error"}
# The codes of refusals by HTTP itself. OpenAI's server has those of 404, 405 and 415.
_HTTP_CODES = {
    403: "permission_denied", 404: "unknown_url", 405: "method_not_supported", 408: "request_timeout",
    413: "request_too_large", 415: "unsupported_content_type",
}  # fmt: skip
_HTTP_ERRORS = (HTTPRefusal, ClientTooSlow, PayloadTooLarge, UnsupportedCoding)


def error_record(error: ServiceError) -> dict[str, Any]:
    """Return the last record of a stream that failed. It is the body of an error answer too."""
    kind, code = error_type(error.status), error_code(error)
    return {"error": {"message": error_message(error), "type": kind, "param": error.param, "code": code}}


def error_type(status: int) -> str:
    """Return OpenAI's `type` of an error: a 4xx is an `invalid_request_error`, also one about the key."""
    return _ERROR_TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def error_code(error: ServiceError) -> str | None:
    """Return OpenAI's `code` of an error. A parameter that is not valid has one, whatever is wrong with it."""
    if isinstance(error, _HTTP_ERRORS):
        return _HTTP_CODES.get(error.status)
    return error.code or ("invalid_value" if error.param else None)


def error_message(error: ServiceError) -> str:
    """Return the text of an error. Programs recognise OpenAI's sentence for a prompt that is too long."""
    if not isinstance(error, PromptTooLong) or not error.limit:
        return error.message
    limit = f"This model's maximum context length is {error.limit} tokens."
    if not error.tokens:
        return f"{limit} {error.message}"
    return (
        f"{limit} However, your messages resulted in {error.tokens} tokens. Please reduce the length of the messages."
    )


class PromptDetails(msgspec.Struct):
    """OpenAI's `prompt_tokens_details`, in tokens."""

    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    """OpenAI's `completion_tokens_details`, in tokens."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    """OpenAI's `usage`: the tokens of all prompts and answers of a call."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = msgspec.field(default_factory=PromptDetails)
    completion_tokens_details: CompletionDetails = msgspec.field(default_factory=CompletionDetails)

    def add(self, finished: Finished, with_prompt: bool) -> None:
        """Add the tokens of one answer, and with `with_prompt` those of its prompt, which counts once."""
        self.completion_tokens += finished.output_tokens
        self.completion_tokens_details.reasoning_tokens += finished.thinking_tokens
        if with_prompt:
            self.prompt_tokens += finished.prompt_tokens
            self.prompt_tokens_details.cached_tokens += finished.cached_tokens
        self.total_tokens = self.prompt_tokens + self.completion_tokens


class CompletionRecord(msgspec.Struct):
    """A chunk of a stream, or a whole answer."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Any]
    usage: Usage | UnsetType = UNSET


class OpenAIAnswer(answer.Answer):
    """The records of one call. Its answers are the choices of the records. `now` is the wall clock in seconds."""

    prefix: ClassVar[str]
    chunk_object: ClassVar[str]
    object: ClassVar[str]

    def __init__(self, call: OpenAICall, now: Callable[[], float] = time.time) -> None:
        super().__init__(call.model)
        self._n = call.n
        self._left = call.n * len(call.requests)
        # A collected answer is joined from a stream, which then needs its usage.
        self._include_usage = call.include_usage or not call.stream
        self._usage = Usage()
        self._id = f"{self.prefix}-{call.request_id or secrets.token_hex(12)}"
        self._created = int(now())
        # The tokens of each answer's prompt, for the usage so far; None if the chunks have no usage.
        self._prompts: dict[int, int] | None = {} if call.continuous_usage and call.stream else None
        self._may_be_plain = self._prompts is None and all(request.logprobs is None for request in call.requests)
        # By the index of the answer.
        self._shapes: dict[int, Shape] = {}

    def failure(self, error: ServiceError) -> Any:
        return error_record(error)

    def _records(self, event: Event) -> list[Any]:
        if isinstance(event, Located):
            self.located(event)
        if isinstance(event, Delta):
            if self._may_be_plain and self.streams and event.text and not (event.thinking or event.tool_calls):
                return [self._plain(event)]
            usage = self._so_far(event)
            return [self._record([choice], usage) for choice in self._choices(event)]
        if isinstance(event, Finished):
            return self._ends(event)
        return []

    def _plain(self, delta: Delta) -> Any:
        """Return the one record of a delta of nothing but text; the first of an answer may differ from the others."""
        shape = self._shapes.get(delta.index)
        if shape is not None:
            return PlainText(shape, (delta.text,))
        (first,) = self._choices(delta)
        (choice,) = self._choices(Delta(delta.id, 0, HOLE, [], index=delta.index))
        self._shapes[delta.index] = Shape(self._record([choice]))
        return self._record([first])

    def _so_far(self, delta: Delta) -> Usage | UnsetType:
        """Return the tokens of the delta's answer and of its prompt, as vLLM counts them, if the client wants them."""
        if self._prompts is None:
            return UNSET
        prompt = self._prompts.setdefault(delta.index, delta.prompt_tokens)
        tokens = delta.seq + len(delta.token_ids)
        return Usage(prompt, tokens, prompt + tokens)

    def _ends(self, finished: Finished) -> list[Any]:
        self._usage.add(finished, with_prompt=finished.index % self._n == 0)
        self._left -= 1
        usage: Usage | UnsetType = UNSET
        if self._prompts is not None:
            usage = Usage()
            usage.add(finished, with_prompt=True)
        records = [self._record([choice], usage) for choice in self._last(finished)]
        if not self._left and self._include_usage:
            records.append(self._record([], self._usage))
        return records

    def _record(self, choices: list[Any], usage: Usage | UnsetType = UNSET) -> CompletionRecord:
        return CompletionRecord(self._id, self.chunk_object, self._created, self._model, FINGERPRINT, choices, usage)

    def _join(self, records: list[CompletionRecord]) -> CompletionRecord:
        whole = records[-1]
        whole.object = self.object
        parts: dict[int, list[Any]] = {}
        for record in records:
            for choice in record.choices:
                parts.setdefault(choice.index, []).append(choice)
        whole.choices = [self._whole(index, parts[index]) for index in sorted(parts)]
        return whole

    def _choices(self, delta: Delta) -> list[Any]:
        """Return the choices of a delta, one for each chunk."""
        raise NotImplementedError

    def _last(self, finished: Finished) -> list[Any]:
        """Return the choices at the end of an answer, one for each chunk."""
        raise NotImplementedError

    def _whole(self, index: int, choices: list[Any]) -> Any:
        """Join the choices of one answer."""
        raise NotImplementedError
