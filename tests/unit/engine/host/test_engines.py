"""Which engine serves a model, which requests wait, and which engines make room: supervisors without processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import pytest

from service.config import Settings
from service.engine.host.engines import Engines
from service.engine.host.residency import Resident
from service.errors import EngineGoingDown, ServerBusy, Unavailable
from service.models.model import Model
from service.protocol.live import EngineStatus, HostState
from service.protocol.model_info import EngineState, ModelInfo
from service.syntax.names import ModelName
from tests.support.loop import in_loop, settle
from tests.support.supervisors import FakeSupervisor


class FakeCatalog:
    """Models whose weights have no bytes."""

    def __init__(self, models: list[Model]) -> None:
        self.all = models

    def models(self) -> list[Model]:
        return self.all

    def info(self, model: Model) -> ModelInfo:
        return ModelInfo(name=model.name.short)


class Field:
    """Engines over fake supervisors, by the names of their models."""

    def __init__(self, *names: str, pinned: tuple[str, ...] = (), memory: int = 10, **settings: Any) -> None:
        self.models = {name: model(name, pinned=name in pinned, memory=memory) for name in names}
        self.catalog = FakeCatalog(list(self.models.values()))
        self.supervisors: dict[str, FakeSupervisor] = {}
        self.changes: list[list[str]] = []
        self.engines = Engines(self.catalog, Settings(**settings), self._make, self._changed)

    def _make(self, model: Model, weights: int, resident: Resident, number: int, stir: Callable[[], None]) -> Any:
        """The replicas of a model `a` are called a, a1, a2 here."""
        made = FakeSupervisor(model, resident, number, stir)
        self.supervisors[f"{resident.name.removesuffix(':latest')}{number or ''}"] = made
        return made

    def _changed(self) -> None:
        self.changes.append(list(self.states().values()))

    def ask(
        self, name: str, caller: str = "", submits: int = 1, lost: Collection[str] = (), beginning: str = ""
    ) -> asyncio.Task[str]:
        return asyncio.create_task(self.locate(self.models[name], caller, submits, lost, beginning))

    async def locate(
        self, model: Model, caller: str = "", submits: int = 1, lost: Collection[str] = (), beginning: str = ""
    ) -> str:
        return (await self.engines.locate(model, caller, None, submits, lost, beginning)).socket

    async def ready(self, *names: str) -> None:
        """Have the models loaded, and not used any more."""
        for name in names:
            asked = self.ask(name, submits=0)
            await settle()
            self.supervisors[name].enter(EngineState.READY)
            await asked

    async def enter(self, name: str, state: EngineState) -> None:
        self.supervisors[name].enter(state)
        await settle()

    def states(self) -> dict[str, str]:
        return {name: str(each.state) for name, each in self.supervisors.items()}


def model(name: str, **fields: Any) -> Model:
    return Model(ModelName.parse(name), "weights", {"of": name}, keep_alive=300.0, **fields)


# --- placed ----------------------------------------------------------------------------------------------


@in_loop
async def test_a_model_is_loaded_for_the_first_request_and_found_by_the_next():
    field = Field("a")
    first = field.ask("a")
    await settle()
    assert field.states() == {"a": "loading"}
    assert not first.done()
    await field.enter("a", EngineState.READY)
    assert await first == await field.ask("a") == "a:latest.sock"
    assert field.supervisors["a"].calls == ["load"]


@in_loop
async def test_an_asker_that_lost_an_engine_waits_for_the_next_one():
    field = Field("a")
    await field.ready("a")
    lost = [await field.ask("a")]
    moved = field.ask("a", lost=lost)
    await settle()
    assert not moved.done()
    await field.enter("a", EngineState.RESTARTING)
    field.supervisors["a"].restarts = 1
    await field.enter("a", EngineState.READY)
    assert await moved == "a:latest1.sock"


@in_loop
async def test_an_engine_that_the_host_finds_well_is_named_again_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.engine.host.engines.SUSPECT_SECONDS", 0.01)
    field = Field("a")
    await field.ready("a")
    lost = await field.ask("a")
    assert await field.ask("a", lost=[lost]) == lost


@in_loop
async def test_requests_for_one_model_load_it_once():
    field = Field("a")
    asked = [field.ask("a") for _ in range(5)]
    await settle()
    await field.enter("a", EngineState.READY)
    assert await asyncio.gather(*asked) == ["a:latest.sock"] * 5
    assert field.supervisors["a"].calls == ["load"]


@in_loop
async def test_models_that_have_an_engine_in_common_share_it_and_both_are_listed():
    field = Field("a")
    twin = Model(ModelName.parse("b"), "weights", {"of": "a"}, system="Rhyme.")
    field.catalog.all.append(twin)
    await field.ready("a")
    assert await field.locate(twin) == "a:latest.sock"
    assert [each.info.name for each in field.engines.loaded()] == ["a:latest", "b:latest"]


@in_loop
async def test_a_worker_that_failed_is_told_to_those_who_ask():
    field = Field("a")
    await field.ready("a")
    field.supervisors["a"].failure = Unavailable("the engine died", 5)
    await field.enter("a", EngineState.RESTARTING)
    with pytest.raises(Unavailable, match="the engine died"):
        await field.ask("a")


@in_loop
async def test_a_model_that_is_being_unloaded_is_loaded_again_for_who_asks():
    field = Field("a")
    await field.ready("a")
    await field.enter("a", EngineState.UNLOADING)
    asked = field.ask("a")
    await settle()
    assert not asked.done()
    await field.enter("a", EngineState.IDLE)
    assert field.states() == {"a": "loading"}
    await field.enter("a", EngineState.READY)
    assert await asked == "a:latest.sock"


@in_loop
async def test_a_caller_with_too_many_waiting_requests_is_refused_and_another_is_not():
    field = Field("a", max_queue=2)
    waiting = [field.ask("a", "many") for _ in range(2)]
    await settle()
    with pytest.raises(ServerBusy):
        await field.ask("a", "many")
    other = field.ask("a", "one")
    await settle()
    await field.enter("a", EngineState.READY)
    assert await asyncio.gather(*waiting, other) == ["a:latest.sock"] * 3


# --- room ------------------------------------------------------------------------------------------------


@in_loop
async def test_the_model_that_was_idle_for_longest_makes_room():
    field = Field("a", "b", "c", max_loaded=2)
    await field.ready("a", "b", "a")
    asked = field.ask("c")
    await settle()
    assert field.states() == {"a": "ready", "b": "unloading", "c": "idle"}
    await field.enter("b", EngineState.IDLE)
    assert field.states() == {"a": "ready", "b": "idle", "c": "loading"}
    await field.enter("c", EngineState.READY)
    assert await asked == "c:latest.sock"


@in_loop
async def test_a_busy_model_is_waited_for():
    field = Field("a", "b", max_loaded=1)
    await field.ready("a")
    await field.ask("a")
    field.supervisors["a"].resident.replicas[0].report(1, 1)
    field.ask("b")
    await settle()
    assert field.states() == {"a": "ready", "b": "idle"}
    field.supervisors["a"].resident.replicas[0].report(1, 0)
    await field.enter("a", EngineState.READY)
    assert field.states() == {"a": "unloading", "b": "idle"}


@in_loop
async def test_a_load_whose_requests_have_all_gone_evicts_nobody():
    field = Field("a", "b", "c", max_loaded=1)
    await field.ready("a")
    await field.ask("a")
    field.supervisors["a"].resident.replicas[0].report(1, 1)
    gone, next_one = field.ask("b"), field.ask("c")
    await settle()
    gone.cancel()
    await settle()
    field.supervisors["a"].resident.replicas[0].report(1, 0)
    await field.enter("a", EngineState.READY)
    await field.enter("a", EngineState.IDLE)
    assert field.states() == {"a": "idle", "b": "idle", "c": "loading"}
    await field.enter("c", EngineState.READY)
    assert await next_one == "c:latest.sock"


@in_loop
async def test_a_model_that_can_never_fit_is_refused_at_once():
    field = Field("a", "b", pinned=("a",), max_memory=15)
    field.engines.load_first()
    await field.enter("a", EngineState.READY)
    with pytest.raises(Unavailable, match="b:latest does not fit"):
        await field.ask("b")
    assert field.states() == {"a": "ready", "b": "idle"}


@in_loop
async def test_a_load_that_finds_no_room_in_time_is_refused():
    field = Field("a", "b", max_loaded=1, load_timeout=0.01)
    await field.ready("a")
    await field.ask("a")
    field.supervisors["a"].resident.replicas[0].report(1, 1)
    with pytest.raises(ServerBusy):
        await field.ask("b")


# --- gone ------------------------------------------------------------------------------------------------


@in_loop
async def test_a_model_that_is_to_go_is_unloaded_when_its_last_request_has_ended():
    field = Field("a")
    await field.ready("a")
    await field.ask("a")
    field.supervisors["a"].resident.replicas[0].report(1, 1)
    unloading = asyncio.create_task(field.engines.unload_overdue())
    await field.engines.unload(field.models["a"])
    assert field.states() == {"a": "ready"}
    field.supervisors["a"].resident.replicas[0].report(1, 0)
    await field.enter("a", EngineState.READY)
    assert field.states() == {"a": "unloading"}
    unloading.cancel()


@in_loop
async def test_the_engine_of_a_deleted_model_goes_unless_another_needs_it():
    field = Field("a")
    twin = Model(ModelName.parse("b"), "weights", {"of": "a"})
    field.catalog.all.append(twin)
    await field.ready("a")
    await field.locate(twin, submits=0)
    field.catalog.all.remove(twin)
    await field.engines.forget(twin)
    assert (field.states(), [each.info.name for each in field.engines.loaded()]) == ({"a": "ready"}, ["a:latest"])
    field.catalog.all.clear()
    forgetting = asyncio.create_task(field.engines.forget(field.models["a"]))
    await settle()
    assert field.states() == {"a": "unloading"}
    await field.enter("a", EngineState.IDLE)
    await forgetting
    unloading = asyncio.create_task(field.engines.unload_overdue())
    await settle()
    assert field.engines.measured() == []
    unloading.cancel()


# --- the host's life -------------------------------------------------------------------------------------


@in_loop
async def test_only_pinned_models_are_loaded_at_the_start():
    field = Field("a", "b", pinned=("b",))
    field.engines.load_first()
    assert field.states() == {"b": "loading"}
    assert field.engines.pinned_states() == {"b:latest": EngineState.LOADING}


@in_loop
async def test_a_model_whose_workers_have_outlived_the_host_before_is_loaded_too():
    field = Field("a", "b", "c", pinned=("b",))
    field.engines.load_first(lambda model: model.name.model == "c")
    assert field.states() == {"b": "loading", "c": "loading"}
    assert field.engines.pinned_states() == {"b:latest": EngineState.LOADING}


@in_loop
async def test_an_idle_model_makes_room_on_the_gpus_of_the_cluster():
    field = Field("a", "b")
    field.engines.limit_gpus(1)
    await field.ready("a")
    asked = field.ask("b")
    await settle()
    assert field.states() == {"a": "unloading", "b": "idle"}
    await field.enter("a", EngineState.IDLE)
    await field.enter("b", EngineState.READY)
    assert await asked == "b:latest.sock"


@in_loop
async def test_a_model_that_needs_more_gpus_than_the_cluster_has_is_refused_until_a_node_is_added():
    field = Field("a")
    field.engines.limit_gpus(0.5)
    with pytest.raises(Unavailable, match="a:latest does not fit"):
        await field.ask("a")
    field.engines.limit_gpus(1)
    await field.ready("a")


@in_loop
async def test_there_is_no_trouble_where_a_pinned_model_is_ready_or_any_other_can_be_loaded():
    assert Field().engines.trouble() == "there is no model"
    assert Field("a").engines.trouble() == ""
    field = Field("a", "b", "c", pinned=("a", "b"))
    field.engines.load_first()
    assert field.engines.trouble() == "a:latest is loading; b:latest is loading"
    await field.enter("b", EngineState.READY)
    assert field.engines.trouble() == ""


@in_loop
async def test_a_drain_refuses_what_waits_and_ends_when_nothing_runs():
    field = Field("a", "b")
    await field.ready("a")
    await field.ask("a")
    field.supervisors["a"].resident.replicas[0].report(1, 1)
    waiting = field.ask("b")
    await settle()
    reports: list[None] = []
    draining = asyncio.create_task(field.engines.drain(60, lambda: reports.append(None)))
    await settle()
    assert (field.states(), field.engines.trouble()) == (
        {"a": "ready", "b": "unloading"},
        EngineGoingDown().message,
    )
    for asked in (waiting, field.ask("a")):
        with pytest.raises(EngineGoingDown):
            await asked
    field.supervisors["a"].resident.replicas[0].report(1, 0)
    await field.enter("a", EngineState.READY)
    await draining
    assert reports


@in_loop
async def test_sockets_are_those_of_the_workers_that_listen():
    field = Field("a", "b")
    await field.ready("a")
    field.ask("b")
    await settle()
    assert field.engines.sockets() == ["a:latest.sock"]
    assert [state.model for state in field.engines.measured()] == ["a:latest", "b:latest"]


# --- observed --------------------------------------------------------------------------------------------


@in_loop
async def test_observers_are_shown_every_model_that_is_not_idle():
    field = Field("a", "b")
    field.catalog.all.append(twin := Model(ModelName.parse("twin"), "weights", {"of": "a"}, system="Rhyme."))
    await field.ready("a", "b")
    await field.locate(twin)
    await field.enter("b", EngineState.IDLE)
    host, reason, models = field.engines.statuses()
    assert (host, reason) == (HostState.READY, "")
    assert [(each.name, each.replicas[0].state) for each in models] == [
        ("a:latest", EngineState.READY), ("twin:latest", EngineState.READY),
    ]  # fmt: skip


@in_loop
async def test_an_engine_that_failed_is_shown_by_the_name_of_its_model(monkeypatch: pytest.MonkeyPatch):
    field = Field("a")
    await field.ready("a")
    await field.enter("a", EngineState.IDLE)
    monkeypatch.setattr(FakeSupervisor, "status", lambda self: EngineStatus(state=EngineState.FAILED))
    assert [each.name for each in field.engines.statuses()[2]] == ["a:latest"]


@in_loop
async def test_a_change_of_a_state_is_told_once_and_requests_are_not():
    field = Field("a")
    await field.ready("a")
    field.supervisors["a"].stir()
    assert field.changes == [["loading"], ["ready"]]


@in_loop
async def test_observers_are_shown_that_the_host_drains():
    field = Field("a")
    await field.ready("a")
    await field.engines.drain(1.0, lambda: None)
    assert field.engines.statuses()[:2] == (HostState.DRAINING, "it was asked to end")
    assert len(field.changes) == 3
