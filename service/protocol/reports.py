"""What an engine worker is started with, and what it reports to its host over the lifeline."""

from __future__ import annotations

from typing import Any

import msgspec

from .request import Struct


class WorkerOptions(msgspec.Struct, frozen=True):
    """What the host tells a worker: `lifeline` is the number of an inherited file descriptor, `parent` its own pid."""

    socket: str
    lifeline: int
    parent: int
    engine: str
    model: str
    engine_args: dict[str, Any] = {}
    tool_parser: str = ""
    reasoning_parser: str = ""
    template: str = ""
    max_queue: int = 0
    name: str = ""
    traces: str = ""


class Ready(Struct):
    """The model is loaded and its data socket listens. `cache_bytes` is the size of its KV cache."""

    context_length: int
    device: str
    cache_bytes: int


class LoadFailed(Struct):
    """The model can't be loaded, and why."""

    message: str


class Pulse(Struct):
    """The engine itself answered: that many requests run in it, that many wait."""

    running: int
    waiting: int


class Activity(Struct):
    """The first request began or the last one ended: `begun` have so far, `running` do now. Sent at once."""

    begun: int
    running: int


Report = Ready | LoadFailed | Pulse | Activity
