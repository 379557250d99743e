"""Supervisors of engine workers that have no processes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from service.engine.bell import Bell
from service.engine.host.kept_handover import KeptHandover
from service.engine.host.metrics import State
from service.engine.host.resident import ReplicaUse, Resident
from service.errors import Unavailable
from service.models.model import Model
from service.protocol.live import EngineStatus
from service.protocol.model_info import EngineState
from service.protocol.reports import Ready


class FakeSupervisor:
    """A supervisor of one replica whose worker is what the test says; `calls` are what was asked of it."""

    pause = 0.0
    load = waiting = 0
    is_well = True
    is_leaving = must_leave = False

    def __init__(self, model: Model, resident: Resident, number: int, stir: Callable[[bool], None]) -> None:
        self.model = model
        self.resident = resident
        self.number = number
        self.calls: list[str] = []
        self.failure: Unavailable | None = None
        self.restarts = self.generation = 0
        self.reason = ""
        self.ready = Ready(4096, "cpu", 0)
        self._stir = stir
        self.handover = KeptHandover(model.name.short, "")
        self._changed = Bell()

    @property
    def use(self) -> ReplicaUse:
        return self.resident.replicas[self.number]

    @property
    def state(self) -> EngineState:
        return self.use.state

    @property
    def socket(self) -> str:
        name = f"{self.resident.name}{self.number or ''}{self.restarts or self.generation or ''}.sock"
        return name if self.state is EngineState.READY else ""

    def enter(self, state: EngineState) -> None:
        self.use.state = state
        self._changed.ring()
        self._stir(True)

    def stir(self) -> None:
        """As when a burst of requests begins or ends."""
        self._stir(False)

    def start(self) -> None:
        self.calls.append("load")
        self.enter(EngineState.LOADING)

    def leave(self) -> None:
        if self.state not in (EngineState.IDLE, EngineState.UNLOADING):
            self.calls.append("leave")
            self.enter(EngineState.UNLOADING)

    async def unload(self) -> None:
        self.leave()
        while self.state is not EngineState.IDLE:
            await self._changed.rung()

    def restart(self) -> None:
        self.calls.append("restart")

    def check(self, lost: Collection[str] = ()) -> None:
        if self.failure is not None and not lost:
            raise self.failure

    def measured(self) -> State:
        return State(self.resident.name, bool(self.socket), 0, 0, 0, 0, 0, int(bool(self.socket)))

    def status(self) -> EngineStatus:
        return EngineStatus(id=self.number, state=self.state, waiting=self.waiting, reason=self.reason)
