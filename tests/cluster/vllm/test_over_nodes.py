"""One model over two nodes, on GPUs that vLLM takes from Ray itself: what of it dies, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.cluster.ray.fleet import Fleet, wait_until_gone
from tests.faults.mixed_streams import LONGEST, Streams, assert_all_are_whole, mixed_streams, some_move
from tests.support.waiting import one_is_done

pytestmark = pytest.mark.timeout(3000)

# The model, and the title of the processes that vLLM has Ray start for it: one for each GPU.
TENSOR, DATA = ("tensor", "RayWorkerProc"), ("data", "EngineCoreActor")


def load(fleet: Fleet, model: str) -> None:
    """Until it answers. Another model makes room for it."""
    body = {"model": model, "prompt": "Hello", "stream": False}
    answer = httpx.post(f"{fleet.server.url}/api/generate", json=body, timeout=600)
    assert answer.status_code == 200, answer.text


def ranks(fleet: Fleet, title: str) -> list[psutil.Process]:
    """One process of vLLM on each of the nodes."""
    found = fleet.running_on_nodes(title)
    assert len(found) == 2
    return found


def streams_run(fleet: Fleet, model: str, streams: Streams) -> None:
    fleet.wait_until(lambda: fleet.running(model) >= 4, "the streams run", one_is_done(streams[:LONGEST]))


@pytest.fixture(scope="module", params=[TENSOR, DATA], ids=["tensor", "data"])
def large(request: pytest.FixtureRequest, fleet_for_large: Fleet) -> tuple[Fleet, str, str, list[Any]]:
    """The fleet, a model that is loaded, the title of its processes, and its undisturbed answers."""
    model, title = request.param
    load(fleet_for_large, model)
    with mixed_streams(fleet_for_large.server.url, model) as streams:
        return fleet_for_large, model, title, [stream.result() for stream in streams]


def kill_worker(fleet: Fleet, title: str) -> None:
    os.kill(fleet.workers()[0], signal.SIGKILL)


def kill_one_rank(fleet: Fleet, title: str) -> None:
    ranks(fleet, title)[1].kill()


def lose_the_other_node(fleet: Fleet, title: str) -> None:
    """The one without the engine worker. Another one is added at once."""
    fleet.lose_node_without(fleet.workers()[0])
    fleet.add_node()


def lose_its_node(fleet: Fleet, title: str) -> None:
    fleet.lose_node_of(fleet.workers()[0])
    fleet.add_node()


@pytest.mark.parametrize("harm", [kill_worker, kill_one_rank, lose_the_other_node, lose_its_node])
def test_streams_continue_on_the_next_engine(
    large: tuple[Fleet, str, str, list[Any]], harm: Callable[[Fleet, str], None]
):
    fleet, model, title, undisturbed = large
    load(fleet, model)
    lost = [*fleet.tree(fleet.workers()[0]), *ranks(fleet, title)]
    with some_move(fleet.server), mixed_streams(fleet.server.url, model) as streams:
        streams_run(fleet, model, streams)
        harm(fleet, title)
        assert_all_are_whole(streams, undisturbed, fleet.hopeless())
    wait_until_gone(lost)
    assert (len(ranks(fleet, title)), len(fleet.workers())) == (2, 1)
    fleet.wait_until(lambda: fleet.nodes() == 2 and fleet.free_gpus() == 0, "the engine has both GPUs")


def test_a_model_that_makes_room_leaves_no_process_and_holds_no_gpu(fleet_for_large: Fleet):
    fleet = fleet_for_large
    for model, title in (TENSOR, DATA):
        load(fleet, model)
        lost = [*fleet.tree(fleet.workers()[0]), *ranks(fleet, title)]
        unload = {"model": model, "keep_alive": 0}
        assert httpx.post(f"{fleet.server.url}/api/generate", json=unload, timeout=120).status_code == 200
        wait_until_gone(lost)
        fleet.wait_until(lambda: fleet.free_gpus() == 2, "the GPUs are free")
