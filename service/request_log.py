"""One JSON line for each request, at its end.

The logger is Python's own; an application that imports the blueprint gives it a handler if it wants the lines, our
gunicorn.conf.py does. Everything but ASCII is escaped: no text of a client's can begin a line or steer a terminal.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from .entry import Entry
from .messages import Chat, Request

LOGGER = "vllm_wsgi.requests"

logger = logging.getLogger(LOGGER)


def to_stdout() -> None:
    """The lines, and nothing around them, to stdout."""
    stdout = logging.StreamHandler(sys.stdout)
    stdout.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [stdout]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def write(entry: Entry, http: dict[str, Any]) -> None:
    """`http` is what HTTP says of the request: its id, its client, its method, its status."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", line(entry, http))


def line(entry: Entry, http: dict[str, Any]) -> str:
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
