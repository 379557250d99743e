"""Several workers of one model: supervisors without processes."""

from __future__ import annotations

import pytest

from service.engine.host.replicas import Replicas
from service.engine.host.resident import Resident
from service.errors import Unavailable
from service.models.model import Model
from service.protocol.model_info import EngineState, ModelInfo
from service.syntax.names import ModelName
from tests.support.loop import in_loop
from tests.support.supervisors import FakeSupervisor


class Group:
    """The replicas of a model `m`, each in the state that the test says."""

    def __init__(self, *states: EngineState, pinned: bool = False, max_queue: int = 512) -> None:
        self.model = Model(ModelName.parse("m"), "weights")
        self.resident = Resident("m:latest", 300.0, pinned, memory=10, replicas=len(states))
        self.stirred = 0
        self.workers: list[FakeSupervisor] = []
        self.replicas = Replicas(self.resident, self._make, self._stir, max_queue)
        for worker, state in zip(self.workers, states, strict=True):
            worker.enter(state)

    def _make(self, number: int, stir):
        self.workers.append(FakeSupervisor(self.model, self.resident, number, stir))
        return self.workers[-1]

    def _stir(self, has_changed: bool) -> None:
        self.stirred += 1

    def chosen(self, *lost: str, beginning: str = "") -> int | None:
        replica = self.replicas.choose(lost, beginning)
        return None if replica is None else replica.number


READY, LOADING, RESTARTING, UNLOADING, IDLE = (
    EngineState.READY, EngineState.LOADING, EngineState.RESTARTING, EngineState.UNLOADING, EngineState.IDLE,
)  # fmt: skip


@in_loop
async def test_all_are_loaded_and_unloaded_together():
    group = Group(IDLE, IDLE)
    group.replicas.load(300.0)
    assert [each.state for each in group.workers] == [LOADING, LOADING]
    group.replicas.leave()
    assert [each.state for each in group.workers] == [UNLOADING, UNLOADING]


@pytest.mark.parametrize(
    ("states", "state"),
    [((RESTARTING, READY), READY), ((IDLE, LOADING), LOADING), ((UNLOADING, IDLE), UNLOADING), ((IDLE, IDLE), IDLE)],
)
@in_loop
async def test_the_model_is_in_the_state_of_the_replica_that_is_nearest_to_serving(states, state):
    assert Group(*states).replicas.state is state


@in_loop
async def test_the_room_of_all_is_taken_as_long_as_one_is_there():
    assert (Group(IDLE, READY).resident.present, Group(IDLE, READY).resident.memory) == (True, 20)


@in_loop
async def test_a_request_goes_to_a_replica_that_serves_and_has_the_least_to_do():
    group = Group(READY, READY, LOADING)
    group.workers[0].load = 1
    assert group.chosen() == 1
    assert group.chosen(group.workers[1].socket) == 0
    assert group.chosen(*[each.socket for each in group.workers]) is None


@in_loop
async def test_a_replica_that_is_not_well_gets_requests_only_where_there_is_no_other():
    group = Group(READY, READY)
    group.workers[0].is_well = False
    group.workers[1].load = 9
    assert group.chosen() == 1
    assert group.chosen(group.workers[1].socket) == 0


@in_loop
async def test_nobody_is_refused_while_a_replica_loads():
    group = Group(LOADING, RESTARTING)
    group.workers[1].failure = Unavailable("it died")
    assert group.chosen() is None
    group.workers[0].enter(RESTARTING)
    group.workers[0].failure = Unavailable("it died, too")
    with pytest.raises(Unavailable, match="it died, too"):
        group.chosen()
    assert group.chosen("lost.sock") is None


@in_loop
async def test_a_replica_that_was_given_up_is_started_again_when_its_pause_is_over():
    group = Group(READY, IDLE)
    group.workers[1].pause = 9.0
    group.replicas.revive()
    assert group.workers[1].state is IDLE
    group.workers[1].pause = 0.0
    group.replicas.revive()
    assert [each.state for each in group.workers] == [READY, LOADING]


@in_loop
async def test_a_model_that_is_idle_is_not_revived():
    group = Group(IDLE, IDLE)
    group.replicas.revive()
    assert group.replicas.state is IDLE


@in_loop
async def test_each_model_that_is_served_is_listed_with_its_replicas_until_all_are_gone():
    group = Group(READY, RESTARTING)
    group.workers[1].waiting = 3
    for name in ("m:latest", "twin:latest"):
        group.replicas.serve(ModelInfo(name=name))
    first, second = group.replicas.loaded()
    assert [first.info.name, second.info.name] == ["m:latest", "twin:latest"]
    assert (first.state, first.waiting, first.size, first.context_length) == (READY, 3, 20, 4096)
    assert [(each.id, each.state) for each in first.replicas] == [(0, READY), (1, RESTARTING)]
    assert [len(each.replicas) for each in group.replicas.statuses()] == [2, 2]
    group.workers[0].enter(IDLE)
    assert len(group.replicas.loaded()) == 2
    group.workers[1].enter(IDLE)
    assert (group.replicas.loaded(), group.replicas.statuses()) == ([], [])


@in_loop
async def test_what_is_measured_is_the_sum_and_how_many_answer():
    measured = Group(READY, READY, IDLE).replicas.measured()
    assert (measured.model, measured.loaded, measured.replicas) == ("m:latest", True, 2)


@in_loop
async def test_what_waits_for_the_model_is_shown_with_the_first_replica():
    group = Group(READY, READY)
    with group.resident.awaited():
        (status,) = group.replicas.statuses()
    assert [each.waiting for each in status.replicas] == [1, 0]


@pytest.mark.parametrize(("waiting", "trouble"), [(511, ""), (512, "m:latest: its queue is full")])
@in_loop
async def test_a_full_queue_is_trouble(waiting: int, trouble: str):
    group = Group(READY)
    group.workers[0].waiting = waiting
    assert group.replicas.trouble() == trouble


@in_loop
async def test_the_queues_of_replicas_add_up():
    group = Group(READY, READY)
    group.workers[0].waiting = 600
    assert group.replicas.trouble() == ""


@in_loop
async def test_only_a_pinned_model_must_be_loaded():
    troubles = [Group(IDLE, pinned=pinned).replicas.trouble() for pinned in (False, True)]
    assert troubles == ["", "m:latest is idle"]
    assert Group(RESTARTING).replicas.trouble() == "m:latest is restarting"
