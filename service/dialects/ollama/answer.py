"""Turn the engine's events into the records of Ollama's generate and chat routes.

Fields and their order are those of Ollama's `api/types.go`, where `omitempty` is msgspec's `omit_defaults`. It never
knows how its records are framed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec

from ...errors import ServiceError
from ...protocol.events import Delta, Event, Finished, Located, Rendered, TokenLogprob
from .. import answer
from ..plain_text import HOLE, PlainText, Shape
from .request import OllamaCall

# Linux has a clock that costs no more than a look at memory.
_COARSE = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


class DebugInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Ollama's `_debug_info`: the prompt as the model would get it, and the number of its images."""

    rendered_template: str
    image_count: int = 0


class GenerateRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A record of `POST /api/generate` (GenerateResponse). Durations are in nanoseconds, counts in tokens."""

    model: str
    created_at: str
    response: str
    thinking: str = ""
    done: bool
    done_reason: str = ""
    context: list[int] = []
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    tool_calls: list[dict[str, Any]] = []
    debug_info: DebugInfo | None = msgspec.field(default=None, name="_debug_info")
    logprobs: list[TokenLogprob] = []


class OllamaChatMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The message of a ChatRecord, or the piece of it that is new."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []


class ChatRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A record of `POST /api/chat` (ChatResponse). Durations are in nanoseconds, counts in tokens."""

    model: str
    created_at: str
    message: OllamaChatMessage
    done: bool
    done_reason: str = ""
    debug_info: DebugInfo | None = msgspec.field(default=None, name="_debug_info")
    logprobs: list[TokenLogprob] = []
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


def error_record(error: ServiceError) -> dict[str, str]:
    """Return the last record of a stream that failed. It is the body of an error answer too."""
    return {"error": error.message}


class OllamaAnswer(answer.Answer):
    """The records of one generation. `now` is the wall clock in nanoseconds.

    `step_now` is a wall clock that stands still for the duration of a decode step, so that the tokens of a step share
    one timestamp.
    """

    def __init__(
        self, call: OllamaCall, now: Callable[[], int] = time.time_ns, step_now: Callable[[], int] | None = None
    ) -> None:
        super().__init__(call.model)
        self._return_context = bool(call.request and call.request.return_context)
        self._now = now
        self._step_now = step_now or (_coarse_now if now is time.time_ns else now)
        self._shape: Shape | None = None
        self._started = now()
        self._load_ns = 0
        self._output_ids: list[int] = []

    def began(self, at: int) -> None:
        """Count the durations from this time on, in nanoseconds since the epoch."""
        self._started = at

    def located(self, event: Located) -> None:
        super().located(event)
        self._load_ns = event.load_ns

    def only(self, done_reason: str) -> Any:
        """Return the one record of a load or an unload."""
        return self._record(done=True, done_reason=done_reason)

    def failure(self, error: ServiceError) -> Any:
        return error_record(error)

    def _records(self, event: Event) -> list[Any]:
        if isinstance(event, Delta):
            if self._return_context:
                self._output_ids += event.token_ids
            return self._parts(event)
        if isinstance(event, Finished):
            return [self._last(event)]
        if isinstance(event, Rendered):
            return [self._record(debug_info=DebugInfo(rendered_template=event.text, image_count=event.images))]
        if isinstance(event, Located):
            self.located(event)
        return []

    def _parts(self, delta: Delta) -> list[Any]:
        """Return a record each for the thinking, the text and the tool calls of a delta, in this order.

        Log probabilities go with the first of them. If a delta has nothing else, they have a record of empty text.
        """
        if self.streams and delta.text and not (delta.thinking or delta.tool_calls or delta.logprobs):
            if self._shape is None:
                self._shape = Shape(self._record(text=HOLE, created_at=HOLE))
            return [PlainText(self._shape, (timestamp(self._step_now()), delta.text))]
        parts = []
        if delta.thinking:
            parts.append(self._record(thinking=delta.thinking))
        if delta.text:
            parts.append(self._record(text=delta.text))
        if delta.tool_calls:
            parts.append(self._record(tool_calls=delta.tool_calls))
        if delta.logprobs:
            parts = parts or [self._record()]
            parts[0].logprobs = delta.logprobs
        return parts

    def _last(self, finished: Finished) -> Any:
        return self._record(
            done=True,
            done_reason=finished.reason,
            context=finished.prompt_token_ids + self._output_ids,
            total_duration=max(0, (finished.ended or self._now()) - self._started),
            load_duration=self._load_ns + finished.queue_ns,
            prompt_eval_count=finished.prompt_tokens,
            prompt_eval_duration=finished.prefill_ns,
            eval_count=finished.output_tokens,
            eval_duration=finished.decode_ns,
        )

    def _record(self, **fields: Any) -> Any:
        raise NotImplementedError


class OllamaGenerateAnswer(OllamaAnswer):
    """The records of `POST /api/generate`."""

    verb = "generate"

    def _record(self, text: str = "", done: bool = False, created_at: str = "", **fields: Any) -> GenerateRecord:
        created_at = created_at or timestamp(self._now())
        return GenerateRecord(model=self._model, created_at=created_at, response=text, done=done, **fields)

    def _join(self, records: list[GenerateRecord]) -> GenerateRecord:
        last = records[-1]
        last.response = "".join(record.response for record in records)
        last.thinking = "".join(record.thinking for record in records)
        last.tool_calls = [call for record in records for call in record.tool_calls]
        last.logprobs = [token for record in records for token in record.logprobs]
        return last


class OllamaChatAnswer(OllamaAnswer):
    """The records of `POST /api/chat`."""

    verb = "chat"

    def _record(
        self,
        text: str = "",
        thinking: str = "",
        tool_calls: list[dict[str, Any]] | None = None,
        done: bool = False,
        created_at: str = "",
        context: list[int] | None = None,
        **fields: Any,
    ) -> ChatRecord:
        message = OllamaChatMessage(role="assistant", content=text, thinking=thinking, tool_calls=tool_calls or [])
        created_at = created_at or timestamp(self._now())
        return ChatRecord(model=self._model, created_at=created_at, message=message, done=done, **fields)

    def _join(self, records: list[ChatRecord]) -> ChatRecord:
        last = records[-1]
        messages = [record.message for record in records]
        last.message = OllamaChatMessage(
            role="assistant",
            content="".join(message.content for message in messages),
            thinking="".join(message.thinking for message in messages),
            tool_calls=[call for message in messages for call in message.tool_calls],
        )
        last.logprobs = [token for record in records for token in record.logprobs]
        return last


def _coarse_now() -> int:
    """Return the time of the kernel's last tick, some milliseconds ago at most."""
    return time.clock_gettime_ns(_COARSE)


@lru_cache(maxsize=8)
def timestamp(nanoseconds: int) -> str:
    """Return a time in RFC 3339 in UTC, as Go's RFC3339Nano: up to nine digits of fraction without trailing zeros."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{_second(seconds)}{digits}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    # Cached, so that it is formatted once a second and not for each token.
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}"
