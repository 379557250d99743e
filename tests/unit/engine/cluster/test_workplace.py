"""Workers on a cluster that is the test's own: what is placed, taken over, ended and left."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from service.config import Settings
from service.engine.cluster.names import new_name
from service.engine.cluster.news import WorkerNews
from service.engine.cluster.ray_cluster import Placement
from service.engine.cluster.remote_process import RemoteProcess
from service.engine.cluster.workplace import ClusterWorkplace, check_models, needs_of
from service.errors import EngineGone, SettingsError, Unavailable
from service.models.model import Model
from service.protocol.model_info import ClusterNode
from service.protocol.reports import Ready, WorkerOptions
from service.syntax.names import ModelName
from tests.support.loop import in_loop

READY = Ready(4096, "cpu", 7, "tls://10.0.0.2:7434")


class FakeActor:
    """An actor whose news are what the test says; `calls` are what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.told: asyncio.Queue[WorkerNews | EngineGone] = asyncio.Queue()

    async def news(self, after: int) -> bytes:
        news = await self.told.get()
        if isinstance(news, EngineGone):
            raise news
        return msgspec.msgpack.encode(news)

    def terminate(self) -> None:
        self.calls.append("terminate")

    async def end(self, seconds: float) -> None:
        self.calls.append("end")

    async def kill(self) -> None:
        self.calls.append("kill")

    def is_ready(self) -> None:
        self.told.put_nowait(WorkerNews(1, [READY], "10.0.0.2"))


class FakeCluster:
    """A cluster with one node; `actors` are those that run."""

    def __init__(self) -> None:
        self.actors: dict[str, FakeActor] = {}
        self.placed: list[tuple[Placement, WorkerOptions]] = []

    def connect(self) -> None:
        pass

    async def place(self, name: str, needs: Placement, options: bytes, *_: Any) -> FakeActor:
        self.placed.append((needs, msgspec.json.decode(options, type=WorkerOptions)))
        self.actors[name] = FakeActor()
        return self.actors[name]

    def names(self) -> list[str]:
        return [*self.actors, "somebody's"]

    def find(self, name: str) -> FakeActor | None:
        return self.actors.get(name)

    def nodes(self) -> list[ClusterNode]:
        return [ClusterNode(id="n", address="10.0.0.2", gpus=8.0)]


class World:
    """A workplace that has joined a cluster on which these replicas run."""

    def __init__(self, *running: tuple[Model, int]) -> None:
        self.cluster = FakeCluster()
        self.cluster.actors = {new_name(*each): FakeActor() for each in running}
        self.found = [*self.cluster.actors.values()]
        self.workplace = ClusterWorkplace(Settings(engine="scripted"), self.cluster)
        self.workplace.connect()


def model(name: str = "m", **fields: Any) -> Model:
    return Model(ModelName.parse(name), "org/weights", **fields)


async def taken_over() -> tuple[World, RemoteProcess]:
    """Return a world in which one worker ran and is ready, and the workplace's process of it."""
    world = World((model(), 0))
    process = await world.workplace.start(model(), 0)
    world.found[0].is_ready()
    await process.report(60)
    return world, process


@in_loop
async def test_a_replica_is_placed_where_its_gpus_are_and_reports_from_there():
    world = World()
    process = await world.workplace.start(model(gpus=2, replicas=2), 1)
    ((needs, options),) = world.cluster.placed
    assert (needs, options.model, options.replica, options.socket) == (Placement(2, 0), "org/weights", 1, "")
    assert process.place == ""
    (actor,) = world.cluster.actors.values()
    actor.is_ready()
    assert await process.report(60) == READY
    assert process.place == "10.0.0.2"


@in_loop
async def test_a_worker_whose_gpus_vllm_takes_itself_runs_beside_the_most_free_ones():
    world, over_nodes = World(), model(gpus=2, engine_args={"distributed_executor_backend": "ray"})
    drained = ClusterNode(id="d", address="10.0.0.4", gpus=8.0, free_gpus=8.0, draining=True)
    head = ClusterNode(id="h", address="10.0.0.1")
    free = [ClusterNode(id=str(gpus), address="10.0.0.2", gpus=8.0, free_gpus=gpus) for gpus in (1, 2)]
    for nodes in ([head, drained, *free], [head, drained]):
        world.workplace.nodes = nodes
        await world.workplace.start(over_nodes, 0)
    assert [needs for needs, _ in world.cluster.placed] == [Placement(0, 0, "2"), Placement(0, 0, "d")]
    world.workplace.nodes = [head]
    with pytest.raises(Unavailable, match="no node of the cluster has a GPU"):
        await world.workplace.start(over_nodes, 0)


@in_loop
async def test_a_worker_that_runs_already_is_taken_over():
    world = World((model(), 0))
    assert world.workplace.holds(model())
    process = await world.workplace.start(model(), 0)
    world.found[0].is_ready()
    assert (await process.report(60), world.cluster.placed) == (READY, [])
    assert not world.workplace.holds(model())
    await world.workplace.start(model(), 0)
    assert len(world.cluster.placed) == 1


@in_loop
async def test_a_worker_that_was_found_and_has_ended_meanwhile_is_placed_anew():
    world = World((model(), 0))
    world.cluster.actors.clear()
    await world.workplace.start(model(), 0)
    assert len(world.cluster.placed) == 1


@in_loop
async def test_workers_that_no_model_needs_are_ended_and_no_others():
    two = model(replicas=2)
    world = World((model("gone", tool_parser="hermes"), 0), (two, 0), (two, 1), (model(replicas=3), 2))
    await world.workplace.end_unneeded([two])
    ended = ["terminate", "end", "kill"]
    assert [actor.calls for actor in world.found] == [ended, [], [], ended]
    assert world.workplace.holds(two)


@in_loop
async def test_of_two_workers_of_one_replica_one_is_ended():
    world = World((model(), 0), (model(), 0))
    await world.workplace.end_unneeded([model()])
    assert sorted(bool(actor.calls) for actor in world.found) == [False, True]


@in_loop
async def test_of_two_workers_of_one_replica_one_is_ended_also_when_the_other_one_serves_already():
    world = World((model(), 0), (model(), 0))
    await world.workplace.start(model(), 0)
    await world.workplace.end_unneeded([model()])
    assert [actor.calls for actor in world.found] == [["terminate", "end", "kill"], []]


@pytest.mark.parametrize("serves", [True, False])
@in_loop
async def test_the_worker_of_a_model_that_is_gone_is_ended_although_another_model_has_its_weights(serves: bool):
    one, other = model("one"), model("other", replicas=2)
    world = World((one, 0), (other, 0), (other, 1), (one, 0))
    if serves:
        await world.workplace.start(other, 0)
    await world.workplace.end_unneeded([other])
    assert [bool(actor.calls) for actor in world.found] == [True, False, False, True]


@in_loop
async def test_two_models_with_the_same_weights_keep_workers_of_their_own():
    one, other = model("one"), model("other", replicas=2)
    world = World((one, 0), (other, 0), (other, 1))
    for starts in one, other:
        process = await world.workplace.start(starts, 0)
        world.found[starts is other].is_ready()
        assert await process.report(60) == READY
    await world.workplace.end_unneeded([one, other])
    assert [actor.calls for actor in world.found] == [[], [], []]


@in_loop
async def test_the_worker_of_an_engine_that_models_share_stays_when_one_of_them_is_gone():
    world = World((model("gone"), 0))
    await world.workplace.end_unneeded([model("one"), model("other")])
    assert world.workplace.holds(model("one"))
    assert [actor.calls for actor in world.found] == [[]]


@in_loop
async def test_a_worker_is_ended_on_its_node_and_its_actor_is_killed():
    world, process = await taken_over()
    process.terminate()
    await process.end(1)
    assert world.found[0].calls == ["terminate", "end", "kill"]


@in_loop
async def test_an_actor_that_waits_for_a_node_is_killed_at_once():
    world = World()
    process = await world.workplace.start(model(), 0)
    process.terminate()
    await process.end(60)
    (actor,) = world.cluster.actors.values()
    assert actor.calls == ["kill"]


@in_loop
async def test_workers_that_are_left_go_on():
    world, process = await taken_over()
    world.workplace.leave()
    process.terminate()
    await process.end(1)
    assert world.found[0].calls == []


@in_loop
async def test_the_end_of_a_worker_and_of_its_actor_are_reported():
    world = World((model(), 0), (model("other", gpus=3), 0))
    exited, lost = [await world.workplace.start(each, 0) for each in (model(), model("other", gpus=3))]
    world.found[0].told.put_nowait(WorkerNews(1, [], "10.0.0.2", has_ended=True, status=-9))
    world.found[1].told.put_nowait(EngineGone("the node is lost"))
    with pytest.raises(EngineGone, match="was killed by SIGKILL"):
        await exited.report(60)
    with pytest.raises(EngineGone, match="the node is lost"):
        await lost.report(60)


@in_loop
async def test_the_gpus_of_all_nodes_are_counted():
    world = World()
    counted: list[float] = []
    watching = asyncio.create_task(world.workplace.watch(counted.append))
    await asyncio.sleep(0)
    watching.cancel()
    assert counted == [8.0]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, Placement(1, 0)),
        ({"gpus": 0.5}, Placement(0.5, 0)),
        ({"gpus": 0}, Placement(0, 1)),
        ({"gpus": 16, "engine_args": {"distributed_executor_backend": "ray"}}, Placement(0, 0)),
        ({"gpus": 2, "engine_args": {"data_parallel_backend": "ray"}}, Placement(0, 0)),
    ],
)
def test_what_a_replica_needs_of_its_node(fields: dict[str, Any], needs: Placement):
    assert needs_of(model(**fields)) == needs


def test_devices_are_refused():
    with pytest.raises(SettingsError, match=r'models\."m:latest"\.devices: Ray chooses'):
        check_models([model(devices=("0",))])


@in_loop
async def test_a_worker_must_leave_a_node_that_is_drained_and_there_is_room_on_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.engine.cluster.workplace.LOOK_SECONDS", 0.0)
    world = World()
    process = await world.workplace.start(model(), 0)
    (actor,) = world.cluster.actors.values()
    actor.told.put_nowait(WorkerNews(1, [READY], "10.0.0.2", node_id="n"))
    await process.report(60)
    assert (process.must_leave, world.workplace.has_room(model(gpus=2.0))) == (False, False)
    nodes = [
        ClusterNode(id="n", address="10.0.0.2", gpus=8.0, free_gpus=4.0, draining=True),
        ClusterNode(id="o", address="10.0.0.3", gpus=8.0, free_gpus=2.0),
    ]
    monkeypatch.setattr(world.cluster, "nodes", lambda: nodes)
    watching = asyncio.create_task(world.workplace.watch(lambda gpus: None))
    while not process.must_leave:
        await asyncio.sleep(0)
    assert [world.workplace.has_room(model(gpus=gpus)) for gpus in (2.0, 3.0)] == [True, False]
    assert not world.workplace.has_room(model(engine_args={"distributed_executor_backend": "ray"}))
    watching.cancel()
