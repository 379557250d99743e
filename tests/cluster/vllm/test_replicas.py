"""What dies in a Ray cluster while two replicas of vLLM stream: every stream is whole, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.cluster.ray.fleet import Fleet, wait_until_gone
from tests.cluster.ray.harms import kill_actor, kill_worker, lose_node
from tests.faults.mixed_streams import Streams, assert_all_are_whole, mixed_streams, some_move, wait_until_both_run

pytestmark = pytest.mark.timeout(3000)


def kill_core(fleet: Fleet) -> None:
    fleet.core(fleet.workers()[0]).kill()


@pytest.mark.parametrize("harm", [kill_worker, kill_core, kill_actor, lose_node])
def test_streams_move_and_the_replica_is_placed_again(
    fleet: Fleet, streams: Streams, undisturbed: list[Any], harm: Callable[[Fleet], None]
):
    before = fleet.workers()
    lost = fleet.tree(before[0])
    with some_move(fleet.server):
        harm(fleet)
        assert_all_are_whole(streams, undisturbed, fleet.hopeless())
    wait_until_gone(lost)
    fleet.wait_until_whole()
    assert before[1] in fleet.workers()
    fleet.wait_until(lambda: fleet.free_gpus() == 0, "each replica has a GPU, and nobody else has one")


def test_a_node_that_stands_still_is_given_up_and_a_node_that_is_added_takes_its_place(
    fleet: Fleet, streams: Streams, undisturbed: list[Any]
):
    before = fleet.workers()
    lost = fleet.tree(before[0])
    with some_move(fleet.server), fleet.still(before[0]):
        assert_all_are_whole(streams, undisturbed, fleet.hopeless())
        fleet.wait_until(lambda: fleet.nodes() == 1, "the node is lost")
        fleet.add_node()
        fleet.wait_until(lambda: fleet.states() == ["ready"] * 2 and fleet.nodes() == 2, "the new node serves")
    wait_until_gone(lost)
    fleet.wait_until_whole()
    assert (before[0] in fleet.workers(), before[1] in fleet.workers()) == (False, True)
    assert fleet.free_gpus() == 0


def test_the_streams_of_a_node_that_is_drained_move_to_a_node_that_has_room(fleet: Fleet, undisturbed: list[Any]):
    before = fleet.workers()
    lost = fleet.tree(before[0])
    fleet.add_node()
    with some_move(fleet.server), mixed_streams(fleet.server.url) as streams:
        wait_until_both_run(fleet.server, streams)
        drained = fleet.drain_node_of(before[0])
        assert_all_are_whole(streams, undisturbed, fleet.hopeless())
    wait_until_gone(lost)
    fleet.wait_until_whole()
    after = fleet.workers()
    fleet.stop_node(drained)
    fleet.wait_until(lambda: fleet.nodes() == 2, "the node is gone")
    assert (before[1] in after, fleet.workers(), fleet.states()) == (True, after, ["ready"] * 2)
    assert fleet.free_gpus() == 0


def test_a_killed_host_cuts_no_stream_and_the_next_one_loads_nothing_anew(
    fleet: Fleet, streams: Streams, undisturbed: list[Any]
):
    before = fleet.workers()
    os.kill(fleet.host.pid, signal.SIGKILL)
    fleet.host.wait_until_gone()
    fleet.start_host()
    assert_all_are_whole(streams, undisturbed, fleet.hopeless())
    fleet.wait_until_whole()
    assert (fleet.workers(), fleet.host.output.count("takes over")) == (before, 2)


def test_a_check_finds_vllm_on_each_node(fleet: Fleet):
    status, lines = fleet.check()
    assert (status, [line for line in lines if "FAILED" in line]) == (0, [])


def test_an_unloaded_model_leaves_no_process_and_holds_no_gpu(fleet: Fleet):
    lost = [process for worker in fleet.workers() for process in fleet.tree(worker)]
    unload = {"model": "demo", "keep_alive": 0}
    assert httpx.post(f"{fleet.server.url}/api/generate", json=unload, timeout=120).status_code == 200
    wait_until_gone(lost)
    fleet.wait_until(lambda: fleet.free_gpus() == 2, "the GPUs are free")
    assert fleet.workers() == []
