"""Which models stay in memory and which go: keep-alive, pins, limits, the least recently used first.

Policy only: the host tells what happens and asks what is to be done. No tasks, no sockets, and the clock is handed in.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...errors import Unavailable

# How long a request may take from hearing where its model is to being there; a web worker needs some milliseconds.
LEASE_SECONDS = 5.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Limits:
    """Models at once, and bytes that they take together; 0: no limit."""

    models: int = 0
    memory: int = 0

    def hold(self, residents: list[Resident]) -> bool:
        crowded = self.models and len(residents) > self.models
        return not crowded and not (self.memory and sum(each.memory for each in residents) > self.memory)


class Resident:
    """One model and its use. `keep_alive` is in seconds, `memory` in bytes.

    A model is busy while requests wait for it, are under way to it, or run in it. The worker says at once when its
    first request begins and its last one ends, and how many have begun by then. The host has counted those that it
    sent there, so that it knows whether one is still under way, for which it waits up to LEASE_SECONDS: a request that
    has been sent to a model finds it there, and `keep_alive: 0` is honoured the moment the last request has ended.
    """

    def __init__(
        self, name: str, keep_alive: float, pinned: bool = False, memory: int = 0, clock: Clock = time.monotonic
    ) -> None:
        self.name = name
        self.pinned = pinned
        self.memory = memory
        self.state = "idle"
        self._clock = clock
        self._keep_alive = keep_alive
        self._waiting: Counter[str] = Counter()
        self._dismissed = False
        self.begin()

    def begin(self) -> None:
        """A worker of its own begins, which knows nothing of the one before."""
        self._sent = self._begun = self._running = 0
        self._sent_at = -math.inf
        self.used = self._clock()

    @contextmanager
    def awaited(self, caller: str = "") -> Iterator[None]:
        """While a request of the caller's waits for the model."""
        self._waiting[caller] += 1
        try:
            yield
        finally:
            self._waiting[caller] -= 1

    def send(self, keep_alive: float | None, submits: int) -> None:
        """A request has heard where the model is, and submits so much there.

        Without a keep_alive of its own the last one stays, as in Ollama (`server/sched.go`, useLoadedRunner).
        """
        self.used = self._clock()
        self._dismissed = False
        if keep_alive is not None:
            self._keep_alive = keep_alive
        if submits:
            if not self._running and not self._lease():
                self._sent = self._begun
            self._sent += submits
            self._sent_at = self.used

    def report(self, begun: int, running: int) -> None:
        """The worker's own count."""
        self._begun, self._running = begun, running
        self.used = self._clock()

    def reset_keep_alive(self, keep_alive: float) -> None:
        """Loaded anew, the model has its own again."""
        self._keep_alive = keep_alive
        self._dismissed = False

    def dismiss(self) -> None:
        """A client has said that it is to go as soon as it is idle, pinned or not."""
        self._dismissed = True

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return self._waiting.total()

    def waiting_of(self, caller: str) -> int:
        return self._waiting[caller]

    @property
    def present(self) -> bool:
        return self.state != "idle"

    @property
    def staying(self) -> bool:
        return self.state not in ("idle", "unloading")

    @property
    def in_use(self) -> bool:
        return bool(self.waiting or self._running or self._lease())

    @property
    def busy(self) -> bool:
        return self.in_use or self.state == "loading"

    @property
    def evictable(self) -> bool:
        return self.staying and not self.pinned and not self.busy

    def remaining(self) -> float:
        """Seconds until it is unloaded if nobody asks for it again; a busy one has all of them before it."""
        if self._dismissed:
            return 0.0
        if self.pinned:
            return math.inf
        return self._keep_alive if self.busy else max(0.0, self.used + self._keep_alive - self._clock())

    def due(self) -> float:
        """Seconds until it may have to go without anything happening before."""
        if not self.staying or self.waiting or self._running or self.state == "loading":
            return math.inf
        if self.pinned and not self._dismissed:
            return math.inf
        return self._lease() or self.remaining()

    def _lease(self) -> float:
        """Seconds for which a request that is under way is still waited for."""
        return max(0.0, self._sent_at + LEASE_SECONDS - self._clock()) if self._sent > self._begun else 0.0


class Residency:
    """All models, and the limits that they share."""

    def __init__(self, limits: Limits) -> None:
        self._residents: list[Resident] = []
        self._limits = limits

    def add(self, resident: Resident) -> None:
        self._residents.append(resident)

    def remove(self, resident: Resident) -> None:
        self._residents.remove(resident)

    def has_room(self, wanted: Resident) -> bool:
        """Whether it can be loaded now."""
        return self._limits.hold([wanted, *(each for each in self._others(wanted) if each.present)])

    def victims(self, wanted: Resident) -> list[Resident]:
        """Who has to go for it, the least recently used first; nobody where those that go already, or nobody, suffice.

        Raises Unavailable where it will not fit whoever goes.
        """
        others = [each for each in self._others(wanted) if each.staying]
        if not self._limits.hold([wanted, *(each for each in others if each.pinned)]):
            raise Unavailable(f"{wanted.name} does not fit within the server's limits beside the pinned models")
        going = self._least_used(others, [wanted])
        return going if self._limits.hold([wanted, *(each for each in others if each not in going)]) else []

    def overdue(self) -> list[Resident]:
        """Whose time is up, and who has to go because a model has turned out to take more memory than was known."""
        expired = [each for each in self._residents if each.due() <= 0]
        staying = [each for each in self._residents if each.staying and each not in expired]
        return expired + self._least_used(staying, [])

    def _least_used(self, staying: list[Resident], wanted: list[Resident]) -> list[Resident]:
        """Those of `staying` without whom the others and `wanted` keep to the limits, or all that can go."""
        idle = sorted((each for each in staying if each.evictable), key=lambda each: each.used)
        going: list[Resident] = []
        while idle and not self._limits.hold([*wanted, *(each for each in staying if each not in going)]):
            going.append(idle.pop(0))
        return going

    def next_due(self) -> float | None:
        """Seconds until that may be the case for one more; None: something else must happen first."""
        return min((due for each in self._residents if math.isfinite(due := each.due())), default=None)

    def _others(self, wanted: Resident) -> list[Resident]:
        return [each for each in self._residents if each is not wanted]
