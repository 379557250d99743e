"""One replica after the other: engines over fake supervisors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.config import Settings
from service.engine.host.engines import Engines
from service.engine.host.resident import Resident
from service.engine.host.rolling_restart import RollingRestart
from service.errors import BadRequest, EngineGoingDown, EngineGone, ServiceError
from service.models.catalog import Catalog
from service.models.model import Model
from service.protocol.commands import Restart
from service.protocol.events import Done, Progress
from service.protocol.model_info import EngineState, ModelInfo
from service.syntax.names import ModelName
from tests.support.loop import in_loop, settle
from tests.support.supervisors import FakeSupervisor


class Field:
    """A model `m` with replicas that are ready, and what the operator is shown of a restart."""

    def __init__(self, replicas: int = 2) -> None:
        self.model = Model(ModelName.parse("m"), "weights", replicas=replicas, pinned=True)
        self.workers: list[FakeSupervisor] = []
        catalog = Catalog([])
        catalog.put(self.model, ModelInfo(name="m:latest"))
        self.engines = Engines(catalog, Settings(), self._make)
        self.restarts = RollingRestart(self.engines, catalog, Settings(drain=0.0))
        self.shown: list[str] = []

    def _make(self, model: Model, weights: int, resident: Resident, number: int, stir: Callable[[bool], None]) -> Any:
        self.workers.append(FakeSupervisor(model, resident, number, stir))
        return self.workers[-1]

    def load(self) -> None:
        self.engines.load_first()
        for worker in self.workers:
            worker.enter(EngineState.READY)

    def restart(self, **fields: Any) -> asyncio.Task[None]:
        return asyncio.create_task(self._restart(Restart(1, **fields)))

    async def _restart(self, command: Restart) -> None:
        async for event in self.restarts.handlers[Restart](command):
            if isinstance(event, Progress):
                self.shown.append(event.status.removeprefix("m:latest, "))
            else:
                assert isinstance(event, Done)

    async def come_back(self, number: int) -> None:
        """The worker ends, and another one is ready under another socket."""
        worker = self.workers[number]
        worker.enter(EngineState.RESTARTING)
        await settle()
        worker.generation += 1
        worker.enter(EngineState.READY)
        await settle()

    def told(self) -> list[bool]:
        return ["restart" in worker.calls for worker in self.workers]


async def refused(restart: asyncio.Task[None]) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        await restart
    return error.value


@in_loop
async def test_a_replica_follows_when_the_one_before_is_ready():
    field = Field()
    field.load()
    restart = field.restart()
    await settle()
    assert field.told() == [True, False]
    await field.come_back(0)
    assert field.told() == [True, True]
    await field.come_back(1)
    await restart
    assert field.shown == [
        "replica 0: is asked to end", "replica 0: is ready again",
        "replica 1: is asked to end", "replica 1: is ready again",
    ]  # fmt: skip


@in_loop
async def test_running_requests_have_time_to_end_and_no_new_ones_come():
    field = Field()
    field.load()
    use = field.workers[0].use
    use.report(1, 1)
    restart = field.restart(seconds=60.0)
    await settle()
    assert (field.told(), field.workers[0].is_leaving) == ([False, False], True)
    use.report(1, 0)
    await asyncio.sleep(0.2)
    assert field.told() == [True, False]
    await field.come_back(0)
    assert not field.workers[0].is_leaving
    restart.cancel()


@in_loop
async def test_what_still_runs_when_the_time_is_over_moves():
    field = Field()
    field.load()
    field.workers[0].use.report(2, 2)
    field.workers[0].load = 2
    restart = field.restart()
    await settle()
    assert field.shown == ["replica 0: is asked to end; its 2 requests will move to another engine"]
    restart.cancel()


@in_loop
async def test_a_worker_that_does_not_come_back_ends_the_restart():
    field = Field()
    field.load()
    restart = field.restart()
    await settle()
    field.workers[0].enter(EngineState.RESTARTING)
    field.workers[0].restarts, field.workers[0].reason = 1, "the model can't be loaded"
    field.workers[0].enter(EngineState.LOADING)
    error = await refused(restart)
    assert (type(error), "can't be loaded; the replicas after it were not" in error.message) == (EngineGone, True)
    assert field.told() == [True, False]


@in_loop
async def test_a_replica_stays_while_another_one_that_has_died_is_away():
    field = Field(replicas=3)
    field.load()
    restart = field.restart()
    await settle()
    field.workers[2].enter(EngineState.RESTARTING)
    await field.come_back(0)
    assert field.told() == [True, False, False]
    await field.come_back(2)
    assert field.told() == [True, True, False]
    restart.cancel()


@in_loop
async def test_a_replica_stays_where_another_one_is_given_up():
    field = Field(replicas=3)
    field.load()
    restart = field.restart()
    await settle()
    field.workers[2].enter(EngineState.IDLE)
    await field.come_back(0)
    error = await refused(restart)
    assert error.message == "m:latest: replica 2 is idle, so that replica 1 was not restarted"


@in_loop
async def test_a_model_that_is_not_loaded_is_not_restarted():
    field = Field()
    assert (await refused(field.restart(model="m"))).message == "m is not loaded, so that no engine worker runs"
    assert (await refused(field.restart())).message == "no model is loaded, so that no engine worker runs"


@in_loop
async def test_one_replica_alone_is_restarted_only_where_a_pause_is_allowed():
    field = Field(replicas=1)
    field.load()
    assert "m:latest has one replica" in (await refused(field.restart())).message
    restart = field.restart(may_pause=True)
    await settle()
    assert field.told() == [True]
    await field.come_back(0)
    await restart


@in_loop
async def test_a_model_whose_other_replica_does_not_serve_is_not_restarted():
    field = Field()
    field.load()
    field.workers[1].enter(EngineState.RESTARTING)
    assert "replica 1 is restarting" in (await refused(field.restart())).message


@in_loop
async def test_a_second_restart_of_the_same_model_is_refused():
    field = Field()
    field.load()
    restart = field.restart()
    await settle()
    error = await refused(field.restart(model="m"))
    assert (type(error), error.message) == (BadRequest, "m:latest is being restarted already")
    restart.cancel()


@in_loop
async def test_nothing_is_restarted_while_the_host_drains():
    field = Field()
    field.load()
    await field.engines.drain(0.0, lambda: None)
    assert isinstance(await refused(field.restart()), EngineGoingDown)


@in_loop
async def test_workers_whose_node_is_drained_are_replaced_one_by_one_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("service.engine.host.rolling_restart.LEAVE_SECONDS", 0.0)
    field, room = Field(3), [False]
    field.load()
    leaving = asyncio.create_task(field.restarts.leave_nodes(lambda model: room[0]))
    for worker in field.workers[:2]:
        worker.must_leave = True
    await settle()
    assert field.told() == [False, False, False]
    room[0] = True
    await settle()
    assert field.told() == [True, False, False]
    field.workers[0].must_leave = False
    await field.come_back(0)
    await settle()
    assert field.told() == [True, True, False]
    leaving.cancel()
