"""The events that an observer gets: the state of every model once a second, and each request when it has ended."""

from __future__ import annotations

import math
from enum import Enum
from typing import Optional

import msgspec

from .commands import RequestOutcome
from .model_info import EngineState


class EngineStatus(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An engine worker, as its host sees it. `reason` is a sentence for people, and empty when nothing is wrong.

    `since` and `retry_at` are in seconds since the epoch. `retry_at` is when the host starts the worker again, and None
    when it does not. `node` is as in Replica.
    """

    id: int = 0
    state: EngineState = EngineState.IDLE
    reason: str = ""
    since: float = 0.0
    retry_at: Optional[float] = None
    running: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    restarts: int = 0
    node: str = ""


class ModelStatus(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A model and its engine workers, of which there is at least one. `expires_at` is as in LoadedModel.

    `first_token_seconds` and `queue_seconds` are medians of the last minute's requests, and None when there were none.
    """

    name: str
    replicas: list[EngineStatus]
    expires_at: float = math.inf
    first_token_seconds: Optional[float] = None
    queue_seconds: Optional[float] = None


class HostState(str, Enum):
    """The state of the engine host. A web worker that can't reach the host reports GONE."""

    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


class LiveSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole state at `time`, in seconds since the epoch. `reason` is the host's."""

    time: float
    host: HostState = HostState.READY
    reason: str = ""
    models: list[ModelStatus] = []


class LiveEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A LiveSnapshot, or a request that has ended.

    A client that connects again names the `mark` of the last event that it got; an event without one is not kept.
    """

    mark: str = ""
    snapshot: Optional[LiveSnapshot] = None
    request: Optional[RequestOutcome] = None
