"""The actor without Ray: it starts a real engine worker, with a scripted engine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from service.engine.cluster import actor
from service.engine.cluster.actor import WorkerActor
from service.engine.cluster.news import WorkerNews
from service.protocol.reports import LoadFailed, Ready, WorkerOptions

OPTIONS = msgspec.json.encode(WorkerOptions("", -1, 0, "scripted", "demo"))
NewActor = Callable[[], WorkerActor]


@pytest.fixture
def new_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewActor]:
    monkeypatch.setattr(actor, "_node", lambda: ("127.0.0.1", "n", "10.0.0.10:6379"))
    made: list[WorkerActor] = []

    def new() -> WorkerActor:
        made.append(WorkerActor(OPTIONS, (0, 0), str(tmp_path)))
        return made[-1]

    yield new
    for each in made:
        each.end(0)


def whole(worker: WorkerActor, wanted: Callable[[WorkerNews], bool]) -> WorkerNews:
    """Ask until the news, from the beginning on, are those that are wanted; fails when the worker has ended before."""
    while not wanted(news := msgspec.msgpack.decode(worker.news(0), type=WorkerNews)):
        assert not news.has_ended, news
    return news


def is_ready(news: WorkerNews) -> bool:
    return any(isinstance(report, Ready) for report in news.reports)


def test_the_worker_listens_at_the_address_of_its_node_and_ends_when_it_is_asked_to(new_actor: NewActor):
    worker = new_actor()
    news = whole(worker, is_ready)
    (ready,) = [report for report in news.reports if isinstance(report, Ready)]
    assert (news.node, news.node_id) == ("127.0.0.1", "n")
    assert ready.address.rpartition(":")[0] == "tcp://127.0.0.1"
    worker.terminate()
    assert whole(worker, lambda news: news.has_ended).status == 0


def test_a_worker_that_is_killed_has_ended_and_nothing_of_it_is_left(new_actor: NewActor):
    worker = new_actor()
    whole(worker, is_ready)
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    assert whole(worker, lambda news: news.has_ended).status == -signal.SIGKILL
    assert not psutil.pid_exists(worker._process.pid)


def test_a_worker_whose_report_can_not_be_read_is_killed(new_actor: NewActor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actor, "decode_report", msgspec.msgpack.Decoder(str).decode)
    news = whole(new_actor(), lambda news: news.has_ended)
    (failed,) = news.reports
    assert isinstance(failed, LoadFailed)
    assert "sent a report that can't be read: Expected `str`" in failed.message
    assert news.status == -signal.SIGKILL


def test_vllm_gets_the_address_that_ray_has_for_the_node_unless_the_operator_sets_one(
    new_actor: NewActor, monkeypatch: pytest.MonkeyPatch
):
    assert new_actor()._environment["VLLM_HOST_IP"] == "127.0.0.1"
    monkeypatch.setenv("VLLM_HOST_IP", "10.0.0.2")
    assert new_actor()._environment["VLLM_HOST_IP"] == "10.0.0.2"


@pytest.mark.parametrize(("is_set_on_node", "threads"), [(True, "1"), (False, None)])
def test_vllm_gets_the_number_of_threads_that_the_operator_sets_and_not_that_of_ray(
    new_actor: NewActor, monkeypatch: pytest.MonkeyPatch, is_set_on_node: bool, threads: str | None
):
    monkeypatch.setattr(actor, "_is_set_on_node", lambda name: is_set_on_node)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert new_actor()._environment.get("OMP_NUM_THREADS") == threads


def test_what_is_set_for_a_node_is_what_its_first_process_began_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getppid", os.getpid)
    monkeypatch.setenv("SET_BY_RAY", "1")
    assert (actor._is_set_on_node("PATH"), actor._is_set_on_node("SET_BY_RAY")) == (True, False)


def test_an_address_that_needs_tls_is_refused(new_actor: NewActor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actor, "_node", lambda: ("10.0.0.2", "n", "10.0.0.10:6379"))
    news = whole(new_actor(), lambda news: news.has_ended)
    (failed,) = news.reports
    assert isinstance(failed, LoadFailed)
    assert "is not encrypted" in failed.message


def test_a_worker_that_no_host_asks_for_ends_when_it_is_idle(new_actor: NewActor, monkeypatch: pytest.MonkeyPatch):
    exited: list[tuple[threading.Thread, int]] = []
    monkeypatch.setattr(actor, "ABANDONED_SECONDS", 0.0)
    monkeypatch.setattr(actor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", lambda status: exited.append((threading.current_thread(), status)))
    worker = new_actor()
    assert worker._latest.wait_for_end(60)
    for thread in worker._threads:
        thread.join()
    # The actors of the other tests, which have ended, count as abandoned, too.
    assert [status for thread, status in exited if thread in worker._threads] == [0]


def test_vllm_reaches_the_cluster_as_its_node_does(new_actor: NewActor):
    assert new_actor()._environment["RAY_ADDRESS"] == "10.0.0.10:6379"
