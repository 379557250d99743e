"""The options that an engine worker is started with, and its reports to the host over the lifeline.

    start ─▶ Ready ─▶ Activity, Pulse, Pulse, Activity, Pulse …        Pulse once a second, Activity when it changes
          └▶ LoadFailed        └▶ EngineDied

The worker exits after LoadFailed and EngineDied. A KeptAnswers may come before its end.
"""

from __future__ import annotations

from typing import Any, Optional, Union

import msgspec

from .kept import SubmitKept
from .request import Struct


class WorkerOptions(msgspec.Struct, frozen=True):
    """The options with which the host starts a worker.

    `socket` is the address where it listens, `lifeline` the number of an inherited file descriptor, `parent` the host's
    pid. `engine` is vllm or scripted, `model` a directory or a repository, `name` the model's name, `template` the path
    of a chat template, `max_queue` how many requests may wait (no limit when 0), and `traces` the URL of a collector.
    `replica` is the worker's number where its model has several, and `tls` the directory of the certificates.
    """

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
    replica: Optional[int] = None
    tls: str = ""


class Ready(Struct):
    """The model is loaded and its data socket listens. `cache_bytes` is the size of its KV cache.

    `address` is where web workers connect; when it is empty, at the path that the worker was started with.
    """

    context_length: int
    device: str
    cache_bytes: int
    address: str = ""


class LoadFailed(Struct):
    """The model can't be loaded, and why; the worker ends."""

    message: str


class EngineDied(Struct):
    """The engine inside the worker is dead, and why; the worker ends."""

    message: str


class Pulse(Struct):
    """The engine itself has answered: the numbers of requests that run in it, and that wait.

    `output_tokens` counts the tokens of all answers since the worker started.
    """

    running: int
    waiting: int
    output_tokens: int = 0


class EngineSilent(Struct):
    """The worker's own loop runs, but the engine has not answered for a second. Takes the place of a Pulse."""


class Activity(Struct):
    """Sent when the first request begins, when the last one ends, when several have ended, and before a Pulse.

    `begun` counts all requests that have begun so far, `running` the sequences of those that run or wait now: a request
    has one for each of its `n` choices, or for each text to embed.
    """

    begun: int
    running: int


class KeptAnswers(Struct):
    """From a worker that ends: the streams that have ended, so that another worker keeps them."""

    streams: list[SubmitKept]


Report = Union[Ready, LoadFailed, EngineDied, Pulse, EngineSilent, Activity, KeptAnswers]
