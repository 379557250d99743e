"""The engine workers of one model, or of several models that share an engine: one for each replica.

They are loaded together and unloaded together; a replica that dies is replaced while the others serve. In: what the
host decides. Out: the replica for a request, and what is reported of all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from ...protocol.live import ModelStatus
from ...protocol.model_info import PRECEDENCE, EngineState, LoadedModel, ModelInfo, Replica
from ...syntax.names import ModelName
from ..bell import Bell
from .metrics import SUMS, State
from .resident import Resident
from .routing import Router
from .supervisor import EngineSupervisor, Stir

# Makes the supervisor of a replica with this number.
NewReplica = Callable[[int, Stir], EngineSupervisor]


class Replicas:
    """`served` are the models that were asked for since the engine was loaded."""

    def __init__(self, resident: Resident, new_replica: NewReplica, stir: Stir, max_queue: int = 0) -> None:
        """No limit when `max_queue` is 0."""
        self.resident = resident
        self.served: dict[str, ModelInfo] = {}
        self._stir = stir
        self._max_queue = max_queue
        self._changed = Bell()
        self._router = Router()
        self._states: list[tuple[EngineState, str]] = []
        # Those of `all` that are idle.
        self._idle: Sequence[EngineSupervisor] = []
        self.all: Sequence[EngineSupervisor] = []
        self.all = [new_replica(number, self._stirred) for number in range(len(resident.replicas))]

    @property
    def state(self) -> EngineState:
        """The state of the replica that is nearest to serving."""
        return self.resident.state

    # --- what is asked ---------------------------------------------------------------------------------------

    def load(self, keep_alive: float) -> None:
        """Begin to keep all replicas running; `keep_alive` (seconds) holds until a request brings its own."""
        if self.state is EngineState.IDLE:
            self.resident.reset_keep_alive(keep_alive)
            for replica in self.all:
                replica.start()

    def serve(self, info: ModelInfo) -> None:
        """List this model among those that are served, until the engine is unloaded."""
        self.served[ModelName.parse(info.name).key] = info.listed()

    def leave(self) -> None:
        """Begin to end all workers; what they are generating ends with an error."""
        for replica in self.all:
            replica.leave()

    async def unload(self) -> None:
        """End all workers, and wait until they are gone."""
        await asyncio.gather(*(replica.unload() for replica in self.all))

    def choose(self, lost: Collection[str] = (), beginning: str = "") -> EngineSupervisor | None:
        """Return the replica for a request; None while the model must be loaded, or is being loaded or unloaded.

        `beginning` identifies a conversation. Raises what the last worker ended with, where no replica serves or is
        about to. An asker that has `lost` sockets gets another replica, or waits for one.
        """
        serving = {each.socket: each for each in self.all if each.socket and each.socket not in lost}
        if not serving:
            self._leading.check(lost)
            return None
        well = {socket: each for socket, each in serving.items() if each.is_well} or serving
        return well[self._router.choose(beginning, {socket: each.load for socket, each in well.items()})]

    def revive(self) -> None:
        """Start replicas that were given up, if their pause is over and the others are there."""
        if self.resident.staying:
            for replica in self._idle:
                if not replica.pause:
                    replica.start()

    async def changed(self) -> None:
        """Wait until the state of a replica changes."""
        await self._changed.rung()

    # --- what is reported ------------------------------------------------------------------------------------

    def loaded(self) -> list[LoadedModel]:
        """Return an entry for each model that is served; memory and requests are the engine's, in each of them."""
        statuses = [each.status() for each in self.all]
        ready = self._leading.ready
        return [
            LoadedModel(
                info=info,
                state=self.state,
                running=sum(each.running for each in statuses),
                waiting=sum(each.waiting for each in statuses),
                size=self.resident.memory,
                context_length=ready.context_length,
                restarts=sum(each.restarts for each in statuses),
                device=ready.device,
                expires_at=time.time() + self.resident.remaining(),
                replicas=[
                    Replica(
                        id=each.id,
                        state=each.state,
                        running=each.running,
                        waiting=each.waiting,
                        restarts=each.restarts,
                        node=each.node,
                    )
                    for each in statuses
                ],
            )
            for info in self.served.values()
        ]

    def statuses(self) -> list[ModelStatus]:
        """Return what observers are shown of each model that is served; empty where all replicas are idle.

        The first replica has the requests that wait for the model.
        """
        first, *others = [each.status() for each in self.all]
        replicas = [replace(first, waiting=first.waiting + self.resident.waiting), *others]
        if all(each.state is EngineState.IDLE for each in replicas):
            return []
        names = [info.name for info in self.served.values()] or [self.resident.name]
        expires_at = time.time() + self.resident.remaining()
        return [ModelStatus(name=name, replicas=replicas, expires_at=expires_at) for name in names]

    def measured(self) -> State:
        """Return what the metrics report of the engine."""
        measured = [each.measured() for each in self.all]
        sums = {field: sum(getattr(each, field) for each in measured) for field in SUMS}
        return State(
            self.resident.name,
            self.state is EngineState.READY,
            **sums | {"waiting": self._waiting},
            workers=tuple(worker for each in measured for worker in each.workers),
        )

    def sockets(self) -> list[str]:
        """Return the data sockets of the workers that listen."""
        return [each.socket for each in self.all if each.socket]

    def trouble(self) -> str:
        """Return why no request should come for the engine now; empty where one may, if only to have it loaded."""
        name = self.resident.name
        if 0 < self._max_queue * max(1, len(self.sockets())) <= self._waiting:
            return f"{name}: its queue is full"
        unwanted = {EngineState.RESTARTING}
        if self.resident.pinned:
            unwanted |= {EngineState.LOADING, EngineState.IDLE}
        return f"{name} is {self.state}" if self.state in unwanted else ""

    @property
    def _leading(self) -> EngineSupervisor:
        return min(self.all, key=lambda each: PRECEDENCE.index(each.state))

    @property
    def _waiting(self) -> int:
        """Requests that wait for the model to be loaded, and in its workers."""
        return self.resident.waiting + sum(each.status().waiting for each in self.all)

    def _stirred(self, has_entered: bool) -> None:
        """Note that something has changed; all replicas are looked at only where one `has_entered` another state."""
        has_changed = has_entered and self._look()
        if has_changed:
            self._changed.ring()
        self._stir(has_changed)

    def _look(self) -> bool:
        """Look at each replica's state, and at what its last worker has left. Return whether a state has changed."""
        before = self._states
        for each in self.all:
            each.handover.to(other.socket for other in self.all)
        self._states = [(each.state, each.socket) for each in self.all]
        self._idle = [each for each in self.all if each.state is EngineState.IDLE]
        if self.all and len(self._idle) == len(self.all):
            self.served.clear()
        return self._states != before
