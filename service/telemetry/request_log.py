"""One JSON line for each request, at its end.

The lines go to Python's logger LOGGER. An application that imports the blueprint gives it a handler if it wants the
lines; under gunicorn our hooks do. Everything but ASCII is escaped, so that no client's text can begin a line or steer
a terminal. An answer never waits for the reader of the log.
"""

from __future__ import annotations

import fcntl
import json
import logging
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any, TextIO

import msgspec

from ..protocol.commands import RequestOutcome
from ..protocol.request import Chat, Request

LOGGER = "vllm_wsgi.requests"
# How long the reader of the log may be busy before a line is dropped.
PATIENCE_SECONDS = 1.0

logger = logging.getLogger(LOGGER)
# Not LOGGER: that one writes its messages as lines of the request log.
web_logger = logging.getLogger("vllm_wsgi.web")

_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_stdout() -> None:
    """Write the lines, and nothing around them, to stdout, or to stderr when stdout is closed."""
    if stream := sys.stdout or sys.stderr:
        logger.handlers = [Lines(stream)]
        logger.setLevel(logging.INFO)
        logger.propagate = False


class Lines(logging.Handler):
    """Writes whole lines to a stream that the web workers share.

    A line that the stream's reader does not take in time is dropped; the number of dropped lines is logged afterwards.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._write(f"{record.getMessage()}\n"):
            self._lost += 1
        elif self._lost:
            web_logger.warning("%d lines of the request log are lost: its reader did not take them", self._lost)
            self._lost = 0

    def _write(self, line: str) -> bool:
        try:
            if not self._is_taken():
                return False
            with _alone(self._stream):
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError):
            # The stream is broken, full or closed.
            return False
        return True

    def _is_taken(self) -> bool:
        """Return whether the stream has room for a line of up to PIPE_BUF (4,096) bytes; a longer one may still block.

        Waits PATIENCE_SECONDS for a slow reader, but not again after it did not read in that time.
        """
        due = time.monotonic() + (0.0 if self._lost else PATIENCE_SECONDS)
        while not self._has_room(0.0):
            left = due - time.monotonic()
            if left <= 0 or not self._has_room(left):
                return False
        return True

    def _has_room(self, seconds: float) -> bool:
        return bool(select.select([], [self._stream], [], seconds)[1])


@contextmanager
def _alone(stream: TextIO) -> Iterator[None]:
    """Hold the lock of the stream's file: lines over PIPE_BUF would mix with those of the other web workers."""
    with suppress(OSError):
        fcntl.lockf(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.lockf(stream, fcntl.LOCK_UN)


def write(outcome: RequestOutcome, prompt: Any = None) -> None:
    """Write the line of a request that has ended."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line(outcome, prompt))


def line(outcome: RequestOutcome, prompt: Any = None) -> str:
    """Return the JSON of a line; without a `prompt`, that field is left out."""
    record = request_record(outcome)
    if prompt is not None:
        record["prompt"] = prompt
    return _encode(record)


def request_record(outcome: RequestOutcome) -> dict[str, Any]:
    """Return the fields of a request, which `/api/events` has, too.

    Durations are in milliseconds, and 0 where there was none.
    """
    return {
        "time": datetime.fromtimestamp(outcome.time, timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": outcome.request_id,
        "client": outcome.client,
        "key": outcome.key,
        "method": outcome.method,
        "status": outcome.status,
        "route": outcome.route,
        "ending": outcome.ending,
        "error": outcome.error,
        "model": outcome.model,
        "prompt_tokens": outcome.prompt_tokens,
        "output_tokens": outcome.output_tokens,
        "duration_ms": _milliseconds(outcome.duration),
        "load_ms": _milliseconds(outcome.load),
        "queue_ms": _milliseconds(outcome.queue),
        "first_token_ms": _milliseconds(outcome.first),
        "longest_pause_ms": _milliseconds(outcome.pause),
        "replica": outcome.replica,
        "moves": sum(outcome.moves.values()),
    }


def prompt_of(request: Request) -> Any:
    """Return a request's prompt for the log, without its images."""
    if isinstance(request.prompt, Chat):
        return [{"role": message.role, "content": message.text} for message in request.prompt.messages]
    return msgspec.to_builtins(request.prompt)


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 1)
