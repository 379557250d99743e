"""The use of one model: the states of its engine workers, their requests, and when it may be unloaded.

In: what happens to the model, as the host reports it. Out: whether it is busy, and when it is due. All totals over the
replicas are kept up to date with each change, so that no question costs more where there are many replicas.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...protocol.model_info import EngineState, leading_state

# How long a request may take from learning where its model is to arriving there; a web worker needs milliseconds.
LEASE_SECONDS = 5.0
# How long web workers send requests to a model without asking where it is. A burst of requests then asks once.
HOLD_SECONDS = 0.1

Clock = Callable[[], float]


class ReplicaUse:
    """One engine worker of a model: its state, its `memory` in bytes, and the requests in it.

    The worker reports how many sequences run in it, and how many requests have begun: at once when its first request
    begins and when its last one ends, later after other changes. The host counts the requests that it has sent there.
    The difference is under way, and the host waits for it up to LEASE_SECONDS (the lease).
    """

    def __init__(
        self,
        memory: int = 0,
        clock: Clock = time.monotonic,
        changed: Callable[[ReplicaUse], None] = lambda use: None,
    ) -> None:
        """`changed` is called after each change of what this class holds, but for `load`."""
        self._memory = memory
        self._state = EngineState.IDLE
        self._clock = clock
        self._changed = changed
        self.begin()

    @property
    def state(self) -> EngineState:
        return self._state

    @state.setter
    def state(self, state: EngineState) -> None:
        self._state = state
        self._changed(self)

    @property
    def memory(self) -> int:
        return self._memory

    @memory.setter
    def memory(self, memory: int) -> None:
        self._memory = memory
        self._changed(self)

    def begin(self) -> None:
        """Begin to count anew, for a new worker."""
        self._sent = self._begun = self.running = self._unseen = 0
        self._sent_at = -math.inf
        self.used = self._clock()
        self._changed(self)

    def send(self, submits: int) -> None:
        """Note that a request has learnt where the worker is, and will submit `submits` requests there."""
        self.used = self._clock()
        if submits:
            if not self.running and not self.lease():
                self._sent = self._begun
            self._sent += submits
            self._unseen += submits
            self._sent_at = self.used
        self._changed(self)

    def report(self, begun: int, running: int) -> None:
        """Note the worker's own counts: requests that have begun so far, and sequences that run now."""
        self._begun, self.running = begun, running
        self._unseen = max(0, min(self._unseen, self._sent - begun))
        self.used = self._clock()
        self._changed(self)

    def forget_unseen(self) -> None:
        """Note that a second has passed: what has not arrived by now never will, such as a client's that has left."""
        self._unseen = 0

    @property
    def load(self) -> int:
        """How many sequences run or wait in the worker, and requests are under way to it."""
        return self.running + self._unseen

    @property
    def is_awaiting(self) -> bool:
        """Whether a request has been sent that has not begun, however long ago."""
        return self._sent > self._begun

    def lease(self) -> float:
        """Return the seconds for which the host still waits for a request that is under way; 0 where none is."""
        return max(0.0, self._sent_at + LEASE_SECONDS - self._clock()) if self.is_awaiting else 0.0

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
        self.gpus = gpus * replicas
        self._pinned = pinned
        self.clock = clock
        self._keep_alive = keep_alive
        self._waiting: Counter[str] = Counter()
        self._dismissed = False
        # Whether it may have to go so that another model fits.
        self.shares_limits = False
        self._touched: Callable[[Resident], None] = lambda resident: None
        # The totals over the replicas, and what each of them adds.
        self._memory = self._running = 0
        self._used = -math.inf
        self._states: Counter[EngineState] = Counter()
        self._counted: dict[ReplicaUse, tuple[EngineState, int, bool]] = {}
        # Those that wait for requests which are under way, in the order of the last ones.
        self._awaiting: dict[ReplicaUse, None] = {}
        self.replicas = [ReplicaUse(memory, clock, self._count) for _ in range(replicas)]

    def watch(self, touched: Callable[[Resident], None]) -> None:
        """Have `touched` called after each change of what the model's place in memory depends on."""
        self._touched = touched

    @property
    def pinned(self) -> bool:
        return self._pinned

    @pinned.setter
    def pinned(self, pinned: bool) -> None:
        self._pinned = pinned
        self._touched(self)

    @property
    def state(self) -> EngineState:
        """The state of the replica that is nearest to serving."""
        return leading_state(self._states)

    @property
    def memory(self) -> int:
        """The bytes of all replicas."""
        return self._memory

    @property
    def used(self) -> float:
        return self._used

    @contextmanager
    def awaited(self, caller: str = "") -> Iterator[None]:
        """Count a request of the caller's as waiting for the model, as long as the context is open."""
        self._waiting[caller] += 1
        self._touched(self)
        try:
            yield
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]
            self._touched(self)

    def send(self, keep_alive: float | None, submits: int, replica: int = 0) -> None:
        """Note that a request has learnt where the replica with this number is, and will submit `submits` requests.

        `keep_alive` is in seconds. None keeps the last one, as in Ollama (`server/sched.go`, useLoadedRunner).
        """
        self._dismissed = False
        if keep_alive is not None:
            self._keep_alive = keep_alive
        use = self.replicas[replica]
        use.send(submits)
        if submits:
            self._awaiting.pop(use, None)
            self._awaiting[use] = None

    def reset_keep_alive(self, keep_alive: float) -> None:
        """Set the keep-alive (seconds) of a model that is loaded anew."""
        self._keep_alive = keep_alive
        self._dismissed = False
        self._touched(self)

    def dismiss(self) -> None:
        """Note that a client wants it unloaded as soon as it is idle, pinned or not."""
        self._dismissed = True
        self._touched(self)

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return self._waiting.total()

    def waiting_of(self, caller: str) -> int:
        return self._waiting[caller]

    @property
    def present(self) -> bool:
        return self._states[EngineState.IDLE] < len(self.replicas)

    @property
    def staying(self) -> bool:
        return self._states[EngineState.IDLE] + self._states[EngineState.UNLOADING] < len(self.replicas)

    @property
    def in_use(self) -> bool:
        return bool(self._waiting or self._running or self._lease())

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
        return self._keep_alive if self.busy else max(0.0, self.used + self._keep_alive - self.clock())

    def holds(self) -> float:
        """Return for how many seconds every request will find it where the last one has found it."""
        is_alone = len(self.replicas) == 1 and not self.shares_limits
        return HOLD_SECONDS if is_alone and self.remaining() > LEASE_SECONDS else 0.0

    def due(self) -> float:
        """Return the seconds until it may have to be unloaded; infinite where something else must happen before."""
        if not self.staying or self._waiting or self._loading or self._running:
            return math.inf
        if self.pinned and not self._dismissed:
            return math.inf
        return self._lease() or self.remaining()

    @property
    def _loading(self) -> bool:
        return self._states[EngineState.LOADING] > 0

    def _lease(self) -> float:
        """The longest lease of all: that of the replica which was sent a request last."""
        return next(reversed(self._awaiting)).lease() if self._awaiting else 0.0

    def _count(self, use: ReplicaUse) -> None:
        """Bring the totals up to date with one replica."""
        state, memory, runs = self._counted.get(use, (None, 0, False))
        self._counted[use] = now = (use.state, use.memory, use.running > 0)
        if state is not use.state:
            if state is not None:
                self._states[state] -= 1
            self._states[use.state] += 1
            self._states = +self._states
        self._memory += use.memory - memory
        self._running += now[2] - runs
        self._used = max(self._used, use.used)
        if not use.is_awaiting:
            self._awaiting.pop(use, None)
        self._touched(self)
