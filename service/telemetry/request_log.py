"""One JSON line for each request, at its end.

The logger is Python's own; an application that imports the blueprint gives it a handler if it wants the lines, our
gunicorn.conf.py does. Everything but ASCII is escaped: no text of a client's can begin a line or steer a terminal.
No answer waits for who reads the log.
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
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from ..protocol.request import Chat, Request
from .request_stats import RequestStats

LOGGER = "vllm_wsgi.requests"
PATIENCE_SECONDS = 1.0

logger = logging.getLogger(LOGGER)


def to_stdout() -> None:
    """The lines, and nothing around them, to stdout; where that is closed, to stderr."""
    if stream := sys.stdout or sys.stderr:
        logger.handlers = [Lines(stream)]
        logger.setLevel(logging.INFO)
        logger.propagate = False


class Lines(logging.Handler):
    """Whole lines to a stream that web workers share. What nobody takes is lost; how many were is said afterwards."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._write(f"{record.getMessage()}\n"):
            self._lost += 1
        elif self._lost:
            logging.getLogger(__name__).warning("%d lines of the request log are lost: nobody took them", self._lost)
            self._lost = 0

    def _write(self, line: str) -> bool:
        try:
            if not self._is_taken():
                return False
            with _alone(self._stream):
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError):
            # Broken, full or closed.
            return False
        return True

    def _is_taken(self) -> bool:
        """Whether a line can be written without holding up others, unless it is longer than PIPE_BUF (4,096 bytes).

        A slow reader is waited for, one that hangs only once.
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
    """Longer lines than PIPE_BUF would mix with those of the other processes."""
    with suppress(OSError):
        fcntl.lockf(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.lockf(stream, fcntl.LOCK_UN)


def write(entry: RequestStats, http: dict[str, Any]) -> None:
    """`http` is what HTTP says of the request: its id, its client, its method, its status."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line(entry, http))


def line(entry: RequestStats, http: dict[str, Any]) -> str:
    """Durations are in milliseconds; 0: there was none."""
    record = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **http,
        "route": entry.route,
        "ending": entry.ending,
        "error": entry.error,
        "model": entry.model,
        "prompt_tokens": entry.prompt_tokens,
        "output_tokens": entry.output_tokens,
        "duration_ms": _milliseconds(entry.duration),
        "load_ms": _milliseconds(entry.load),
        "queue_ms": _milliseconds(entry.queue),
        "first_token_ms": _milliseconds(entry.first),
        "longest_pause_ms": _milliseconds(entry.pause),
    }
    if entry.prompt is not None:
        record["prompt"] = entry.prompt
    return json.dumps(record, separators=(",", ":"))


def prompt_of(request: Request) -> Any:
    """What was asked, without images."""
    if isinstance(request.prompt, Chat):
        return [{"role": message.role, "content": message.text} for message in request.prompt.messages]
    return msgspec.to_builtins(request.prompt)


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 1)
