"""Engines that die, hang or are asked to end under running streams: the client sees a pause. Scripted engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults.scripted_streams import Said, Streams, streams, undisturbed_answers
from tests.support.answers import NDJSON, chat, text
from tests.support.servers import Server
from tests.support.waiting import until

StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Said]:
    server = Server.start(tmp_path_factory.mktemp("undisturbed"))
    whole = undisturbed_answers(server, tmp_path_factory.mktemp("gates"))
    server.stop()
    return whole


def kill_worker(server: Server, _: Streams) -> None:
    os.kill(server.engine_workers()[0], signal.SIGKILL)


def stop_worker(server: Server, _: Streams) -> None:
    os.kill(server.engine_workers()[0], signal.SIGSTOP)


def end_worker(server: Server, _: Streams) -> None:
    os.kill(server.engine_workers()[0], signal.SIGTERM)


def kill_host(server: Server, _: Streams) -> None:
    os.kill(server.engine_hosts()[0], signal.SIGKILL)


def kill_worker_twice(server: Server, begun: Streams) -> None:
    kill_worker(server, begun)
    until(lambda: server.status().get("restarts") == 1 and server.status()["state"] == "ready", 120, "it is back")
    begun.pass_first_gate()
    kill_worker(server, begun)


@pytest.mark.parametrize("harm", [kill_worker, stop_worker, end_worker, kill_host, kill_worker_twice])
def test_every_stream_is_whole(
    start_server: StartServer,
    tmp_path: Path,
    undisturbed: list[Said],
    harm: Callable[[Server, Streams], None],
):
    server = start_server({"VLLM_WSGI_ENGINE_TIMEOUT": "2", "VLLM_WSGI_MOVES": "2"})
    with streams(server, tmp_path) as begun:
        harm(server, begun)
        assert begun.end() == undisturbed


def test_a_request_that_kills_its_engine_is_given_up_and_streams_that_have_ended_are_still_kept(
    start_server: StartServer,
):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    kept = httpx.post(f"{server.url}/api/chat", json=chat("a b c", resumable=True), timeout=120)
    answer = httpx.post(f"{server.url}/api/chat", json=chat("a b !die", stream=False), timeout=120)
    assert answer.status_code == 500
    assert "died 2 times" in answer.json()["error"]
    assert server.output.count("is given up") == 1
    server.wait_until_ready()
    again = httpx.get(f"{server.url}{kept.headers['Content-Location']}", headers={"Accept": NDJSON}, timeout=120)
    assert text([json.loads(line) for line in again.text.splitlines()]) == "a b c "
