"""Which engine serves a model, which requests wait, and which engines make room: supervisors without processes."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import ServerBusy, Unavailable
from service.models.model import Model
from service.protocol.model_info import EngineState
from service.syntax.names import ModelName
from tests.support.engines import Field
from tests.support.loop import in_loop, settle

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
