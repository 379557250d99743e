from __future__ import annotations

import math

import pytest

from service.engine.host.resident import HOLD_SECONDS, LEASE_SECONDS, Resident
from service.errors import Unavailable
from service.protocol.model_info import EngineState
from tests.support.residents import Clock, names, ready, residency, serve


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- how long a model stays ------------------------------------------------------------------------------


def test_a_model_stays_for_its_keep_alive_after_its_last_use(clock: Clock):
    model = ready(clock)
    clock.now += 9
    serve(model)
    clock.now += 9.5
    assert (residency(model).overdue(), model.remaining()) == ([], 0.5)
    clock.now += 0.5
    assert residency(model).overdue() == [model]


def test_a_requests_keep_alive_counts_and_stays_for_those_that_have_none(clock: Clock):
    model = ready(clock)
    serve(model, 100.0)
    serve(model)
    assert model.remaining() == 100
    serve(model, 1.0)
    assert model.remaining() == 1


def test_loaded_anew_a_model_has_its_own_keep_alive_again(clock: Clock):
    model = ready(clock)
    serve(model, math.inf)
    model.reset_keep_alive(10)
    model.replicas[0].begin()
    assert model.remaining() == 10


def test_keep_alive_0_unloads_when_the_last_request_has_ended(clock: Clock):
    model = ready(clock)
    for _ in range(2):
        model.send(0.0, submits=True)
    model.replicas[0].report(1, 1)
    assert not residency(model).overdue()
    model.replicas[0].report(2, 0)
    assert residency(model).overdue() == [model]


def test_a_dismissed_model_goes_when_its_last_request_has_ended(clock: Clock):
    model = ready(clock, pinned=True)
    model.send(None, submits=True)
    model.replicas[0].report(1, 1)
    model.dismiss()
    assert model.due() == math.inf
    model.replicas[0].report(1, 0)
    assert model.due() == 0


def test_a_request_that_comes_after_its_dismissal_keeps_a_model(clock: Clock):
    model = ready(clock, keep_alive=10)
    model.dismiss()
    serve(model)
    assert model.due() == 10


@pytest.mark.parametrize(("keep_alive", "pinned"), [(math.inf, False), (0.0, True)])
def test_a_model_that_is_to_stay_never_is_due(clock: Clock, keep_alive: float, pinned: bool):
    model = ready(clock, keep_alive=keep_alive, pinned=pinned)
    serve(model)
    clock.now += 1e9
    assert (residency(model).overdue(), residency(model).next_due(), model.remaining()) == ([], None, math.inf)


@pytest.mark.parametrize("state", [EngineState.IDLE, EngineState.LOADING, EngineState.UNLOADING])
def test_only_a_loaded_model_is_due(clock: Clock, state: EngineState):
    model = ready(clock, keep_alive=0.0)
    model.replicas[0].state = state
    assert residency(model).overdue() == []


def test_the_next_due_is_the_first_of_all(clock: Clock):
    models = [ready(clock, name, keep_alive) for name, keep_alive in [("a", 7.0), ("b", 3.0), ("c", math.inf)]]
    assert residency(*models).next_due() == 3
    assert residency().next_due() is None


# --- who is busy -----------------------------------------------------------------------------------------


def test_a_running_request_keeps_its_model_however_long_it_takes(clock: Clock):
    model = ready(clock, keep_alive=0.0)
    model.send(None, submits=True)
    model.replicas[0].report(1, 1)
    clock.now += 1e6
    assert (model.busy, residency(model).overdue(), residency(model).next_due()) == (True, [], None)


def test_a_request_that_is_under_way_keeps_its_model_for_a_while(clock: Clock):
    model = ready(clock, keep_alive=0.0)
    model.send(None, submits=True)
    assert (model.busy, residency(model).next_due()) == (True, LEASE_SECONDS)
    clock.now += LEASE_SECONDS
    assert (model.busy, residency(model).overdue()) == (False, [model])


def test_a_request_that_never_came_is_not_waited_for_again(clock: Clock):
    model = ready(clock)
    model.send(None, submits=True)
    clock.now += LEASE_SECONDS
    serve(model)
    assert not model.busy


def test_of_two_requests_that_are_under_way_the_end_of_one_does_not_end_the_wait(clock: Clock):
    model = ready(clock)
    for _ in range(2):
        model.send(None, submits=True)
    model.replicas[0].report(1, 1)
    model.replicas[0].report(1, 0)
    assert model.busy
    model.replicas[0].report(2, 1)
    model.replicas[0].report(2, 0)
    assert not model.busy


def test_a_load_alone_does_not_make_a_model_busy(clock: Clock):
    model = ready(clock)
    model.send(None, submits=False)
    assert not model.busy


def test_a_model_that_is_waited_for_is_busy(clock: Clock):
    model = ready(clock, keep_alive=0.0)
    with model.awaited():
        assert (model.busy, residency(model).overdue()) == (True, [])
    assert residency(model).overdue() == [model]


def test_what_ran_in_a_worker_that_died_runs_no_more(clock: Clock):
    model = ready(clock)
    model.send(None, submits=True)
    model.replicas[0].report(1, 1)
    model.replicas[0].begin()
    assert not model.busy


# --- what it costs ----------------------------------------------------------------------------------------


def test_only_a_model_that_has_changed_is_looked_at_again(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    models = [ready(clock, str(number), keep_alive=10.0 + number, replicas=50) for number in range(20)]
    house = residency(*models)
    assert (house.overdue(), house.next_due()) == ([], 10)
    looked_at: list[str] = []
    due = Resident.due
    monkeypatch.setattr(Resident, "due", lambda self: looked_at.append(self.name) or due(self))
    serve(models[7], 1.0)
    assert (house.overdue(), house.next_due(), looked_at) == ([], 1, ["7"])
    assert (house.overdue(), house.next_due(), looked_at) == ([], 1, ["7"])
    clock.now += 1
    assert house.overdue() == house.overdue() == [models[7]]
    assert set(looked_at) == {"7"}


def test_the_totals_of_many_replicas_are_those_of_each(clock: Clock):
    model = Resident("m", 10.0, clock=clock, replicas=3, memory=5)
    first, second, third = model.replicas
    assert (model.present, model.staying, model.memory, model.state) == (False, False, 15, EngineState.IDLE)
    first.state, second.state = EngineState.READY, EngineState.UNLOADING
    third.memory = 7
    assert (model.present, model.staying, model.memory, model.state) == (True, True, 17, EngineState.READY)
    first.report(1, 1)
    second.report(1, 1)
    first.report(1, 0)
    assert model.in_use
    second.begin()
    assert not model.in_use
    model.send(None, 1, replica=0)
    clock.now += 1
    model.send(None, 1, replica=1)
    first.report(2, 0)
    clock.now += LEASE_SECONDS - 1
    assert model.in_use
    clock.now += 1
    assert not model.in_use


# --- limits ----------------------------------------------------------------------------------------------


def test_without_limits_there_is_always_room(clock: Clock):
    models = [ready(clock, str(number), memory=1 << 50) for number in range(100)]
    assert residency(*models).has_room(Resident("new", 1.0, memory=1 << 60))


def test_parts_of_gpus_that_fill_all_of_them_have_room(clock: Clock):
    filled = residency(ready(clock, "a", gpus=0.8, replicas=3))
    filled.limit_gpus(3)
    assert filled.has_room(Resident("b", 1.0, replicas=2, gpus=0.3, clock=clock))
    assert not filled.has_room(Resident("b", 1.0, gpus=0.6001, clock=clock))


@pytest.mark.parametrize("limits", [{"models": 2}, {"memory": 20}])
def test_the_least_recently_used_goes(clock: Clock, limits: dict[str, int]):
    a, b = ready(clock, "a", memory=10), ready(clock, "b", memory=10)
    clock.now += 1
    serve(a)
    new = Resident("new", 1.0, memory=10, clock=clock)
    house = residency(a, b, new, **limits)
    assert (house.has_room(new), names(house.victims(new))) == (False, ["b"])


def test_as_many_go_as_it_takes_and_no_more(clock: Clock):
    models = []
    for name, memory in [("a", 5), ("b", 5), ("c", 10)]:
        models.append(ready(clock, name, memory=memory))
        clock.now += 1
    new = Resident("new", 1.0, memory=10, clock=clock)
    assert names(residency(*models, memory=20).victims(new)) == ["a", "b"]


def test_a_model_that_takes_nothing_of_what_is_wanted_stays(clock: Clock):
    full = residency(ready(clock, "cpu", memory=5), ready(clock, "gpu", gpus=1.0), memory=10)
    full.limit_gpus(1)
    assert names(full.victims(Resident("new", 1.0, memory=5, gpus=1.0, clock=clock))) == ["gpu"]
    assert names(full.victims(Resident("new", 1.0, memory=6, gpus=0.0, clock=clock))) == ["cpu"]


def test_busy_and_pinned_models_never_go(clock: Clock):
    pinned, busy, idle = ready(clock, "pinned", pinned=True), ready(clock, "busy"), ready(clock, "idle")
    busy.send(None, submits=True)
    busy.replicas[0].report(1, 1)
    clock.now += 100
    serve(idle)
    new = Resident("new", 1.0, clock=clock)
    assert names(residency(pinned, busy, idle, models=3).victims(new)) == ["idle"]
    assert names(residency(pinned, busy, models=2).victims(new)) == []


def test_nobody_goes_where_that_would_not_be_enough(clock: Clock):
    busy, idle = ready(clock, "busy", memory=15), ready(clock, "idle", memory=5)
    busy.replicas[0].report(1, 1)
    new = Resident("new", 1.0, memory=10, clock=clock)
    assert residency(busy, idle, memory=20).victims(new) == []


def test_a_model_that_goes_already_takes_its_room_until_it_is_gone(clock: Clock):
    going, idle, new = ready(clock, "going"), ready(clock, "idle"), Resident("new", 1.0, clock=clock)
    going.replicas[0].state = EngineState.UNLOADING
    house = residency(going, idle, new, models=2)
    assert (house.has_room(new), house.victims(new)) == (False, [])
    going.replicas[0].state = EngineState.IDLE
    assert house.has_room(new)


@pytest.mark.parametrize(("limits", "memory"), [({"models": 1}, 1), ({"memory": 20}, 11), ({"memory": 20}, 21)])
def test_what_will_never_fit_is_refused_at_once(clock: Clock, limits: dict[str, int], memory: int):
    pinned, new = ready(clock, "pinned", memory=10, pinned=True), Resident("new", 1.0, memory=memory, clock=clock)
    with pytest.raises(Unavailable, match=r"^new does not fit within the server's limits beside the pinned models$"):
        residency(pinned, new, **limits).victims(new)


def test_a_model_that_took_more_memory_than_was_known_drives_others_out(clock: Clock):
    old, new = ready(clock, "old", memory=10), ready(clock, "new", memory=5)
    clock.now += 1
    serve(new)
    house = residency(old, new, memory=15)
    assert house.overdue() == []
    new.replicas[0].memory = 15
    assert names(house.overdue()) == ["old"]


# --- how long a location holds ---------------------------------------------------------------------------


def test_a_location_holds_only_where_nothing_can_send_the_model_away_meanwhile(clock: Clock):
    alone = ready(clock, keep_alive=300.0)
    residency(alone)
    assert alone.holds() == HOLD_SECONDS
    serve(alone, LEASE_SECONDS)
    assert alone.holds() == 0
    alone.dismiss()
    assert alone.holds() == 0
    beside, spread = ready(clock, keep_alive=300.0), ready(clock, keep_alive=300.0, replicas=2)
    residency(beside, models=1)
    residency(spread)
    assert (beside.holds(), spread.holds()) == (0, 0)
    pinned = ready(clock, keep_alive=1.0, pinned=True)
    residency(pinned)
    assert pinned.holds() == HOLD_SECONDS
