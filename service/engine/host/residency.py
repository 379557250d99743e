"""Decide which models stay in memory and which are evicted: keep-alive, pins, limits, the least recently used first.

Policy only: the host reports what happens and asks what is to be done. No tasks, no sockets; the clock is handed in.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ...errors import Unavailable
from ...protocol.model_info import EngineState, leading_state

# How long a request may take from learning where its model is to arriving there; a web worker needs milliseconds.
LEASE_SECONDS = 5.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Limits:
    """How many models may be loaded at once, and how many bytes they may take together; no limit when 0.

    `gpus` are those of the whole cluster. Ray decides whether they are on the right nodes.
    """

    models: int = 0
    memory: int = 0
    gpus: float = math.inf

    def hold(self, residents: list[Resident]) -> bool:
        crowded = (self.models and len(residents) > self.models) or sum(each.gpus for each in residents) > self.gpus
        return not crowded and not (self.memory and sum(each.memory for each in residents) > self.memory)


class ReplicaUse:
    """One engine worker of a model: its state, its `memory` in bytes, and the requests in it.

    The worker reports at once when its first request begins and when its last one ends, and how many have begun by
    then. The host counts the requests that it has sent there. The difference is under way, and the host waits for it up
    to LEASE_SECONDS (the lease). `unseen` counts the requests that were sent since the worker's last pulse.
    """

    def __init__(self, memory: int = 0, clock: Clock = time.monotonic) -> None:
        self.memory = memory
        self.state = EngineState.IDLE
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Begin to count anew, for a new worker."""
        self._sent = self._begun = self.running = self.unseen = 0
        self._sent_at = -math.inf
        self.used = self._clock()

    def send(self, submits: int) -> None:
        """Note that a request has learnt where the worker is, and will submit `submits` requests there."""
        self.used = self._clock()
        if submits:
            if not self.running and not self.lease():
                self._sent = self._begun
            self._sent += submits
            self.unseen += submits
            self._sent_at = self.used

    def report(self, begun: int, running: int) -> None:
        """Note the worker's own counts: requests that have begun so far, and that run now."""
        self._begun, self.running = begun, running
        self.used = self._clock()

    def lease(self) -> float:
        """Return the seconds for which the host still waits for a request that is under way; 0 where none is."""
        return max(0.0, self._sent_at + LEASE_SECONDS - self._clock()) if self._sent > self._begun else 0.0

    @property
    def in_use(self) -> bool:
        return bool(self.running or self.lease())


class Resident:
    """One model and its use. `keep_alive` is in seconds; `memory`, in bytes, and `gpus` are those of each replica.

    A model is busy while requests wait for it, are under way to it, or run in it. So a request that was sent to a model
    finds it loaded, and `keep_alive: 0` takes effect when the last request ends. The replicas of a model are loaded
    together and unloaded together; the room for all of them is taken as long as one is there.
    """

    def __init__(
        self,
        name: str,
        keep_alive: float,
        pinned: bool = False,
        memory: int = 0,
        clock: Clock = time.monotonic,
        replicas: int = 1,
        gpus: float = 0.0,
    ) -> None:
        self.name = name
        self.pinned = pinned
        self.replicas = [ReplicaUse(memory, clock) for _ in range(replicas)]
        self.gpus = gpus * replicas
        self._clock = clock
        self._keep_alive = keep_alive
        self._waiting: Counter[str] = Counter()
        self._dismissed = False

    @property
    def state(self) -> EngineState:
        """The state of the replica that is nearest to serving."""
        return leading_state(each.state for each in self.replicas)

    @property
    def memory(self) -> int:
        """The bytes of all replicas."""
        return sum(each.memory for each in self.replicas)

    @property
    def used(self) -> float:
        return max(each.used for each in self.replicas)

    @contextmanager
    def awaited(self, caller: str = "") -> Iterator[None]:
        """Count a request of the caller's as waiting for the model, as long as the context is open."""
        self._waiting[caller] += 1
        try:
            yield
        finally:
            self._waiting[caller] -= 1

    def send(self, keep_alive: float | None, submits: int, replica: int = 0) -> None:
        """Note that a request has learnt where the replica with this number is, and will submit `submits` requests.

        `keep_alive` is in seconds. None keeps the last one, as in Ollama (`server/sched.go`, useLoadedRunner).
        """
        self._dismissed = False
        if keep_alive is not None:
            self._keep_alive = keep_alive
        self.replicas[replica].send(submits)

    def reset_keep_alive(self, keep_alive: float) -> None:
        """Set the keep-alive (seconds) of a model that is loaded anew."""
        self._keep_alive = keep_alive
        self._dismissed = False

    def dismiss(self) -> None:
        """Note that a client wants it unloaded as soon as it is idle, pinned or not."""
        self._dismissed = True

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return self._waiting.total()

    def waiting_of(self, caller: str) -> int:
        return self._waiting[caller]

    @property
    def present(self) -> bool:
        return any(each.state is not EngineState.IDLE for each in self.replicas)

    @property
    def staying(self) -> bool:
        return any(each.state not in (EngineState.IDLE, EngineState.UNLOADING) for each in self.replicas)

    @property
    def in_use(self) -> bool:
        return bool(self.waiting) or any(each.in_use for each in self.replicas)

    @property
    def busy(self) -> bool:
        return self.in_use or self._loading

    @property
    def evictable(self) -> bool:
        return self.staying and not self.pinned and not self.busy

    def remaining(self) -> float:
        """Return the seconds until it is unloaded if no further request comes; a busy one has its whole keep-alive."""
        if self._dismissed:
            return 0.0
        if self.pinned:
            return math.inf
        return self._keep_alive if self.busy else max(0.0, self.used + self._keep_alive - self._clock())

    def due(self) -> float:
        """Return the seconds until it may have to be unloaded; infinite where something else must happen before."""
        if not self.staying or self.waiting or self._loading or any(each.running for each in self.replicas):
            return math.inf
        if self.pinned and not self._dismissed:
            return math.inf
        return max(each.lease() for each in self.replicas) or self.remaining()

    @property
    def _loading(self) -> bool:
        return any(each.state is EngineState.LOADING for each in self.replicas)


class Residency:
    """All models, and the limits that they share."""

    def __init__(self, limits: Limits) -> None:
        self._residents: list[Resident] = []
        self._limits = limits

    def add(self, resident: Resident) -> None:
        self._residents.append(resident)

    def remove(self, resident: Resident) -> None:
        self._residents.remove(resident)

    def limit_gpus(self, gpus: float) -> None:
        """Set how many GPUs there are."""
        self._limits = replace(self._limits, gpus=gpus)

    def has_room(self, wanted: Resident) -> bool:
        """Return whether it can be loaded now."""
        return self._limits.hold([wanted, *(each for each in self._others(wanted) if each.present)])

    def victims(self, wanted: Resident) -> list[Resident]:
        """Return the models to unload so that `wanted` fits, the least recently used first.

        The list is empty where there is room, where those that are being unloaded already make enough, and where
        unloading all that may go now would not. Raises Unavailable where it can't fit beside the pinned models.
        """
        others = [each for each in self._others(wanted) if each.staying]
        if not self._limits.hold([wanted, *(each for each in others if each.pinned)]):
            raise Unavailable(f"{wanted.name} does not fit within the server's limits beside the pinned models")
        going = self._least_used(others, [wanted])
        return going if self._limits.hold([wanted, *(each for each in others if each not in going)]) else []

    def overdue(self) -> list[Resident]:
        """Return the models whose time is up, and those to unload since a model takes more memory than was known."""
        expired = [each for each in self._residents if each.due() <= 0]
        staying = [each for each in self._residents if each.staying and each not in expired]
        return expired + self._least_used(staying, [])

    def _least_used(self, staying: list[Resident], wanted: list[Resident]) -> list[Resident]:
        """Return those of `staying` that must go for the rest and `wanted` to fit, or all that can go."""
        idle = sorted((each for each in staying if each.evictable), key=lambda each: each.used)
        going: list[Resident] = []
        while idle and not self._limits.hold([*wanted, *(each for each in staying if each not in going)]):
            going.append(idle.pop(0))
        return going

    def next_due(self) -> float | None:
        """Return the seconds until one more may be overdue; None where something else must happen before."""
        return min((due for each in self._residents if math.isfinite(due := each.due())), default=None)

    def _others(self, wanted: Resident) -> list[Resident]:
        return [each for each in self._residents if each is not wanted]
