"""The engines from the host's start to its drain, and their states for observers: supervisors without processes."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import EngineGoingDown, Unavailable
from service.models.model import Model
from service.protocol.live import EngineStatus, HostState
from service.protocol.model_info import EngineState
from service.syntax.names import ModelName
from tests.support.engines import Field
from tests.support.loop import in_loop, settle
from tests.support.supervisors import FakeSupervisor

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
