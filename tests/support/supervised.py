"""A supervisor whose workers are the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.config import Settings
from service.engine.host.backoff import Backoff
from service.engine.host.resident import Resident
from service.engine.host.supervisor import EngineSupervisor
from service.models.model import Model
from service.protocol.model_info import EngineState
from service.protocol.reports import Ready, Report
from service.syntax.names import ModelName
from tests.support.loop import Clock, settle

READY = Ready(4096, "cpu", 7)


class FakeWorker:
    """A worker that reports what the test says."""

    place = ""
    must_leave = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.reports: asyncio.Queue[Report | Exception] = asyncio.Queue()
        self.ended = False

    async def report(self, timeout: float) -> Report:
        report = await self.reports.get()
        if isinstance(report, Exception):
            raise report
        return report

    def cpu_seconds(self, own: bool) -> float | None:
        return None

    def terminate(self) -> None:
        self.ended = True

    async def end(self, timeout: float) -> None:
        pass


class Watched:
    """A supervisor, and the workers that it has started."""

    def __init__(self, pinned: bool = False, start: Callable[[], None] = lambda: None) -> None:
        self.workers: list[FakeWorker] = []
        self.stirred = 0
        self.clock = Clock()
        self._start = start
        model = Model(ModelName.parse("m"), "weights")
        resident = Resident("m:latest", 300.0, pinned, clock=self.clock)
        self.supervisor = EngineSupervisor(
            Settings(), model, 5, self, resident, 0, self._stir, Backoff(self.clock, [0.0]),
        )  # fmt: skip

    def _stir(self, has_entered: bool) -> None:
        self.stirred += 1

    async def start(self, model: Model, replica: int) -> FakeWorker:
        """The supervisor's workplace is the test."""
        self._start()
        self.workers.append(FakeWorker(f"/run/worker-{len(self.workers) + 1}.sock"))
        return self.workers[-1]

    async def report(self, *reports: Report | Exception) -> None:
        for report in reports:
            self.workers[-1].reports.put_nowait(report)
            await settle()

    async def load(self) -> None:
        self.supervisor.start()
        await settle()

    @property
    def state(self) -> EngineState:
        return self.supervisor.state
