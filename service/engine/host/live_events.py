"""The events that observers get: a snapshot each second and at each change of a state, and each request that has ended.

In: what the host knows, and the requests that it counts. Out: events, to whoever observes. Without observers a snapshot
is taken only as often as the history keeps one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from msgspec.structs import replace

from ...protocol.commands import Command, Observe, RequestOutcome
from ...protocol.events import Event, Observed
from ...protocol.live import HostState, LiveSnapshot, ModelStatus
from ..bell import Bell
from ..listener import Handler
from .event_history import KEPT_SECONDS, THINNED_SECONDS, EventHistory
from .recent_medians import RecentMedians

SNAPSHOT_SECONDS = 1.0
# An observer that has just been answered comes again at once, if it is not gone.
LINGER_SECONDS = 3.0
# Events that come within this time go together: a busy server ends a thousand requests a second.
GATHER_SECONDS = 0.1
MOST_EVENTS = 200

Read = Callable[[], tuple[HostState, str, list[ModelStatus]]]


class LiveEvents:
    """`read` returns the state of the host, the reason for it, and the status of every model without its medians."""

    def __init__(self, read: Read, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._history = EventHistory(clock)
        self._medians = RecentMedians(clock)
        self._wake, self._news = Bell(), Bell()
        self._has_changed = False
        self._observers = 0
        self._observed_at = -LINGER_SECONDS
        self.handlers: dict[type[Command], Handler] = {Observe: self._observe}

    def changed(self) -> None:
        """Take a snapshot soon, since a state has changed."""
        self._has_changed = True
        self._wake.ring()

    def count(self, outcome: RequestOutcome, model: str) -> None:
        """Add a request that has ended; `model` is the model's own name, or empty."""
        self._history.add_request(outcome)
        self._medians.add(outcome, model)
        self._news.ring()

    def forget(self, model: str) -> None:
        """Forget a model that was deleted."""
        self._medians.forget(model)

    async def take_snapshots(self) -> None:
        """Take them for as long as the host lives."""
        while True:
            self._take_snapshot()
            pause = SNAPSHOT_SECONDS if self._is_observed else THINNED_SECONDS
            with suppress(TimeoutError):
                # Not `wait_for`, which begins to listen a moment later.
                async with asyncio.timeout(pause):
                    await self._wake.rung()

    @property
    def _is_observed(self) -> bool:
        return bool(self._observers) or self._clock() - self._observed_at < LINGER_SECONDS

    def _take_snapshot(self) -> None:
        host, reason, models = self._read()
        snapshot = LiveSnapshot(time.time(), host, reason, [self._with_medians(model) for model in models])
        self._history.add_snapshot(snapshot, self._has_changed)
        self._has_changed = False
        self._news.ring()

    def _with_medians(self, model: ModelStatus) -> ModelStatus:
        first, queue = self._medians.of(model.name)
        return replace(model, first_token_seconds=first, queue_seconds=queue)

    async def _observe(self, command: Observe) -> AsyncGenerator[Event, None]:
        was_observed = self._is_observed
        self._observers += 1
        try:
            if not was_observed:
                # The newest snapshot may be some seconds old.
                self._wake.ring()
                await self._news.rung()
            seconds = min(command.seconds, KEPT_SECONDS)
            while not (events := self._history.events(command.after, seconds, MOST_EVENTS)):
                await self._news.rung()
                await asyncio.sleep(GATHER_SECONDS)
            yield Observed(command.id, events)
        finally:
            self._observers -= 1
            self._observed_at = self._clock()
