"""Two engine workers of one model, harmed one at a time under running streams. Scripted engine, one server for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.scripted_streams import RUNNING, Said, Streams, streams, undisturbed_answers
from tests.faults.table import fault
from tests.support.answers import NDJSON, chat, text
from tests.support.servers import ROOT, SCRIPTED, Server, clean_environment
from tests.support.waiting import one_is_done, until

MODELS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true
replicas = 2
"""


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("replicated")
    (directory / "models.toml").write_text(MODELS)
    env = {"VLLM_WSGI_MODELS": str(directory / "models.toml"), "VLLM_WSGI_MOVES": "2", "VLLM_WSGI_ENGINE_TIMEOUT": "2"}
    server = Server.start(directory, {**SCRIPTED, **env})
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def all_are_ready(replicated: Server) -> None:
    until(lambda: states(replicated) == ["ready", "ready"], 120, "both replicas are ready")


@pytest.fixture(scope="module")
def undisturbed(replicated: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Said]:
    return undisturbed_answers(replicated, tmp_path_factory.mktemp("gates"))


def ask(server: Server, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}/api/chat", json=body, timeout=120)


def replicas(server: Server) -> list[dict[str, Any]]:
    return list(server.status().get("replicas", []))


def states(server: Server) -> list[str]:
    return [replica["state"] for replica in replicas(server)]


def lines(server: Server) -> list[dict[str, Any]]:
    """The request log."""
    return [json.loads(line) for line in server.output.splitlines() if line.startswith('{"time"')]


def one_worker(server: Server, number: signal.Signals) -> int:
    """Send a signal to one of the workers, and return its pid."""
    worker = server.engine_workers()[0]
    os.kill(worker, number)
    return worker


def restart(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    """`vllm-wsgi restart`, with the control socket of the host that gunicorn has started."""
    socket = psutil.Process(server.engine_hosts()[0]).environ()["VLLM_WSGI_ENGINE_SOCKET"]
    return subprocess.run(
        [sys.executable, "-m", "service", "restart", "--socket", socket, *options],
        cwd=ROOT, env=clean_environment({}), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def kill_one(server: Server, begun: Streams) -> None:
    one_worker(server, signal.SIGKILL)


def kill_both(server: Server, begun: Streams) -> None:
    """The second one has the streams of the first by then, and has brought no token of any stream since."""
    first, second = server.engine_workers()
    os.kill(first, signal.SIGKILL)
    until(lambda: max(each["running"] for each in replicas(server)) >= RUNNING, 120, "all run on the second")
    os.kill(second, signal.SIGKILL)


def stop_one(server: Server, begun: Streams) -> None:
    one_worker(server, signal.SIGSTOP)


def end_one(server: Server, begun: Streams) -> None:
    """Until it has ended: a worker that ends is still called ready."""
    worker = one_worker(server, signal.SIGTERM)
    until(lambda: worker not in server.engine_workers(), 120, "the worker has ended")


def restart_all(server: Server, begun: Streams) -> None:
    workers = server.engine_workers()
    done = restart(server, "--wait", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()].count("is ready again") == 2
    assert not set(workers) & set(server.engine_workers())


@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        pytest.param(kill_one, "died", marks=fault("`kill -9` of one of two replicas")),
        pytest.param(kill_both, "died", marks=fault("`kill -9` of one of two replicas")),
        pytest.param(stop_one, "died", marks=fault("`SIGSTOP` of one of two replicas")),
        pytest.param(end_one, "drained", marks=fault("`SIGTERM` of one of two replicas")),
        pytest.param(restart_all, "drained", marks=fault("`vllm-wsgi restart` of two replicas")),
    ],
)
def test_every_stream_is_whole(
    replicated: Server, tmp_path: Path, undisturbed: list[Said], harm: Callable[[Server, Streams], None], cause: str
):
    logged, moved = len(lines(replicated)), moves(replicated, cause)
    with streams(replicated, tmp_path) as begun:
        harm(replicated, begun)
        assert begun.end() == undisturbed
    until(lambda: moves(replicated, cause) > moved, 120, "the moves are counted")
    ended = [line for line in lines(replicated)[logged:] if line["method"] == "POST"]
    assert {line["ending"] for line in ended} == {"done"}
    assert any(line["moves"] for line in ended)


def moves(server: Server, cause: str) -> float:
    """How many moves `/metrics` counts."""
    name = f'vllm_wsgi_moves_total{{cause="{cause}",model="demo:latest"}} '
    text = ask_metrics(server)
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def ask_metrics(server: Server) -> str:
    return str(httpx.get(f"{server.url}/metrics", timeout=60).text)


def test_while_one_replica_is_away_new_requests_are_served(replicated: Server):
    (worker, _) = replicated.engine_workers()
    os.kill(worker, signal.SIGKILL)
    for number in range(20):
        assert ask(replicated, chat(f"{number}", stream=False)).status_code == 200


def test_texts_are_embedded_anew_on_the_other_replica(replicated: Server):
    body = {"model": "demo", "input": ["!sleep:3 a", "b"]}
    with ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(httpx.post, f"{replicated.url}/api/embed", json=body, timeout=120) for _ in range(2)]
        until(
            lambda: all(each["running"] for each in replicas(replicated)), 120, "one runs on each", one_is_done(posts)
        )
        os.kill(replicated.engine_workers()[0], signal.SIGKILL)
        first, second = [post.result() for post in posts]
    assert (first.status_code, len(first.json()["embeddings"])) == (200, 2)
    assert first.json()["embeddings"] == second.json()["embeddings"]
    assert "begins again on another engine" in replicated.output


def test_a_text_that_kills_its_engines_is_given_up(replicated: Server):
    answer = httpx.post(f"{replicated.url}/api/embed", json={"model": "demo", "input": "!die"}, timeout=120)
    assert (answer.status_code, "died 2 times" in answer.json()["error"]) == (500, True)


@pytest.mark.parametrize("harm", [end_one, restart_all])
def test_a_stream_that_has_ended_is_still_kept_by_another_worker(
    replicated: Server, tmp_path: Path, harm: Callable[[Server, Any], None]
):
    kept = []
    for number in range(6):
        answer = httpx.post(f"{replicated.url}/api/chat", json=chat(f"a b {number}", resumable=True), timeout=120)
        kept.append((f"{replicated.url}{answer.headers['Content-Location']}", f"a b {number} "))
    harm(replicated, None)
    for url, said in kept:
        again = httpx.get(url, headers={"Accept": NDJSON}, timeout=120)
        assert (again.status_code, text([json.loads(line) for line in again.text.splitlines()])) == (200, said)
        assert httpx.delete(url, timeout=120).status_code == 204


def served(server: Server, logged: int, count: int) -> list[int]:
    """The replicas of the requests after so many lines. A line is written after its answer has left."""
    posts: list[dict[str, Any]] = []

    def are_logged() -> bool:
        posts[:] = [line for line in lines(server)[logged:] if line["method"] == "POST"]
        return len(posts) == count

    until(are_logged, 120, "all requests are logged")
    return [post["replica"] for post in posts]


def test_the_turns_of_a_conversation_go_to_one_replica_and_conversations_to_both(replicated: Server):
    logged = len(lines(replicated))
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, replicated, chat(f"!sleep:1 {number}")) for number in range(6)]
        assert {post.result().status_code for post in asked} == {200}
    first = served(replicated, logged, 6)
    for number in range(6):
        messages = [*chat(f"!sleep:1 {number}")["messages"], {"role": "assistant", "content": "a"}]
        messages.append({"role": "user", "content": f"turn {number}"})
        assert ask(replicated, {"model": "demo", "messages": messages}).status_code == 200
    assert sorted(served(replicated, logged, 12)[6:]) == sorted(first)
    assert set(first) == {0, 1}


def test_many_short_turns_of_one_conversation_stay_on_its_replica(replicated: Server):
    """An agent's turns take less time than the engine workers' pulse."""
    logged = len(lines(replicated))
    for _ in range(40):
        assert ask(replicated, chat("a b", stream=False)).status_code == 200
    assert len(set(served(replicated, logged, 40))) == 1


def test_a_restart_of_a_model_that_is_not_there_is_refused(replicated: Server):
    done = restart(replicated, "nobody")
    assert (done.returncode, done.stderr) == (1, "Error: model 'nobody' not found\n")


def test_one_replica_alone_is_restarted_when_a_pause_is_allowed_and_its_streams_continue(
    start_server: Callable[..., Server], tmp_path: Path, undisturbed: list[Said]
):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    refused = restart(server)
    assert (refused.returncode, "has one replica" in refused.stderr) == (1, True)
    with streams(server, tmp_path) as begun:
        assert restart(server, "--wait", "0", "--pause").returncode == 0
        assert begun.end() == undisturbed
    assert server.status()["restarts"] == 0
