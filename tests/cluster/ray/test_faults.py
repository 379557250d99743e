"""What dies in a Ray cluster while streams run: each stream is whole, and no process or GPU is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.cluster.ray.fleet import Fleet
from tests.cluster.ray.harms import kill_actor, kill_worker, lose_node
from tests.faults.scripted_streams import Said, streams, undisturbed_answers
from tests.support.answers import chat


@pytest.fixture(scope="module")
def undisturbed(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> list[Said]:
    whole_fleet.wait_until_whole()
    return undisturbed_answers(whole_fleet.server, tmp_path_factory.mktemp("gates"))


@pytest.mark.parametrize("harm", [kill_worker, kill_actor, lose_node])
def test_streams_move_and_the_replica_is_placed_again(
    fleet: Fleet, tmp_path: Path, undisturbed: list[Said], harm: Callable[[Fleet], None]
):
    before = fleet.workers()
    with streams(fleet.server, tmp_path) as begun:
        harm(fleet)
        assert begun.end() == undisturbed
    fleet.wait_until(lambda: before[0] not in fleet.workers(), "the old worker is gone")
    fleet.wait_until_whole()
    assert before[1] in fleet.workers()
    fleet.wait_until(lambda: fleet.free_gpus() == 0, "each replica has a GPU, and nobody else has one")


def test_a_node_that_stands_still_is_given_up_and_a_node_that_is_added_takes_its_place(
    fleet: Fleet, tmp_path: Path, undisturbed: list[Said]
):
    """Its connections stay open and nothing is said on them. When it goes on, nothing of it serves any more."""
    before = fleet.workers()
    with streams(fleet.server, tmp_path) as begun, fleet.still(before[0]):
        assert begun.end() == undisturbed
        fleet.wait_until(lambda: fleet.nodes() == 1, "the node is lost")
        fleet.add_node()
        fleet.wait_until(lambda: fleet.states() == ["ready"] * 2 and fleet.nodes() == 2, "the new node serves")
    fleet.wait_until_whole()
    assert before[0] not in fleet.workers()
    assert before[1] in fleet.workers()
    assert fleet.free_gpus() == 0


def test_a_node_that_is_drained_is_left_as_soon_as_another_one_has_room(
    fleet: Fleet, tmp_path: Path, undisturbed: list[Said]
):
    before = fleet.workers()
    with streams(fleet.server, tmp_path) as begun:
        drained = fleet.drain_node_of(before[0])
        assert fleet.workers() == before
        fleet.add_node()
        fleet.wait_until(lambda: before[0] not in fleet.workers(), "the worker has left the node")
        assert begun.end() == undisturbed
    fleet.wait_until_whole()
    after = fleet.workers()
    assert before[1] in after
    fleet.stop_node(drained)
    fleet.wait_until(lambda: fleet.nodes() == 2, "the node is gone")
    assert (fleet.workers(), fleet.states(), fleet.free_gpus()) == (after, ["ready"] * 2, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_of_the_host_cuts_no_stream_and_loads_nothing_anew(
    fleet: Fleet, tmp_path: Path, undisturbed: list[Said], number: signal.Signals
):
    before = fleet.workers()
    with streams(fleet.server, tmp_path) as begun:
        os.kill(fleet.host.pid, number)
        fleet.host.wait_until_gone()
        begun.pass_first_gate()
        fleet.start_host()
        assert begun.end() == undisturbed
    fleet.wait_until_whole()
    assert fleet.workers() == before
    assert fleet.host.output.count("takes over") == 2
    answer = httpx.post(f"{fleet.server.url}/api/chat", json=chat("again", stream=False), timeout=120)
    assert answer.json()["message"]["content"].split() == ["again"]


def test_an_unloaded_model_frees_its_gpus_and_the_next_request_takes_them_again(fleet: Fleet):
    unload = {"model": "demo", "keep_alive": 0}
    assert httpx.post(f"{fleet.server.url}/api/generate", json=unload, timeout=120).status_code == 200
    fleet.wait_until(lambda: not fleet.workers() and fleet.free_gpus() == 2, "the GPUs are free")
    answer = httpx.post(f"{fleet.server.url}/api/chat", json=chat("again", stream=False), timeout=300)
    assert answer.json()["message"]["content"].split() == ["again"]


def test_status_and_metrics_name_the_node_of_each_replica(fleet: Fleet):
    status = httpx.get(f"{fleet.server.url}/api/status", timeout=60).json()["vllm_wsgi"]
    addresses = {node["address"] for node in status["nodes"]}
    assert {replica["node"] for replica in status["models"][0]["replicas"]} <= addresses
    assert sum(node["gpus"] for node in status["nodes"]) == 2
    metrics = httpx.get(f"{fleet.server.url}/metrics", timeout=60).text
    replicas = [line for line in metrics.splitlines() if line.startswith("vllm_wsgi_replica_ready{")]
    assert [line.endswith(" 1.0") and any(each in line for each in addresses) for line in replicas] == [True, True]
