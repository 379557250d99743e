"""Processes that are killed, hang or are stopped: streams end, service resumes, nothing is left. Scripted engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.table import fault
from tests.support.answers import NDJSON, SSE, chat, parse, text
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import one_is_done, until

StartServer = Callable[..., Server]
# What becomes of streams that may not continue on another engine; tests/faults/test_moves.py has those that may.
STAY = {"VLLM_WSGI_MOVES": "0"}
V1 = ("/v1/chat/completions", "/v1/messages")
FORMATS: list[dict[str, Any]] = [{}, {"stream": "sse"}, {"stream": False}]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def post(server: Server, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}/api/chat", json=body, timeout=120, verify=False)


def begin(server: Server, pool: ThreadPoolExecutor, script: str = "a !sleep:60 b") -> list[Future[httpx.Response]]:
    """One request in each format, which the engine runs by now and would for a minute."""
    running = server.status()["running"]
    posts = [pool.submit(post, server, chat(script, **fields)) for fields in FORMATS]
    server.wait_until_running(running + len(posts), unless=one_is_done(posts))
    return posts


def assert_ended_with_an_error(posts: list[Future[httpx.Response]]) -> None:
    ndjson, sse, json = [post.result() for post in posts]
    for answer, media_type in ((ndjson, NDJSON), (sse, SSE)):
        *records, last = parse(answer.content, media_type)
        assert text(records) == "a "
        assert last.keys() == {"error", "request_id"}
    assert json.status_code == 503
    assert int(json.headers["Retry-After"]) > 0


def resumed(server: Server, refusals: list[httpx.Response]) -> bool:
    """Whether a request is answered; what refuses it until then is kept."""
    answer = post(server, chat("a", stream=False))
    if answer.status_code != 200:
        refusals.append(answer)
    return answer.status_code == 200


def assert_resumes(server: Server) -> None:
    """After a while of 503s that say when to come back, and nothing else."""
    refusals: list[httpx.Response] = []
    took = until(lambda: resumed(server, refusals), 120, "service resumes")
    print(f"service was back after {took:.2f} s and {len(refusals)} refusals")
    assert {answer.status_code for answer in refusals} == {503}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refusals)
    assert all(answer.json().keys() == {"error"} for answer in refusals)


def test_a_killed_engine_worker_is_replaced(start_server: StartServer, pool: ThreadPoolExecutor):
    server = start_server(STAY)
    web, (worker,) = server.web_workers(), server.engine_workers()
    posts = begin(server, pool)
    os.kill(worker, signal.SIGKILL)
    assert_ended_with_an_error(posts)
    assert_resumes(server)
    assert server.web_workers() == web
    assert server.engine_workers() != [worker]
    assert server.status()["restarts"] == 1
    assert "the engine worker was killed by SIGKILL (probably by the kernel's out-of-memory killer)" in server.output


def test_an_engine_that_ends_itself_is_replaced(start_server: StartServer, pool: ThreadPoolExecutor):
    server = start_server(STAY)
    posts = begin(server, pool)
    crash = post(server, chat("!crash"))
    assert (crash.status_code, crash.json().keys()) == (503, {"error"})
    assert_ended_with_an_error(posts)
    assert_resumes(server)


@pytest.mark.parametrize("stop", [True, False], ids=["stopped", "hangs"])
def test_an_engine_that_answers_nothing_is_replaced(start_server: StartServer, pool: ThreadPoolExecutor, stop: bool):
    server = start_server(STAY | {"VLLM_WSGI_ENGINE_TIMEOUT": "4"})
    web, (worker,) = server.web_workers(), server.engine_workers()
    posts = begin(server, pool)
    if stop:
        os.kill(worker, signal.SIGSTOP)
    else:
        posts += [pool.submit(post, server, chat("a !hang", **fields)) for fields in FORMATS]
    assert_ended_with_an_error(posts[:3])
    assert not posts[3:] or assert_ended_with_an_error(posts[3:]) is None
    assert_resumes(server)
    assert not psutil.pid_exists(worker)
    assert server.web_workers() == web
    assert server.status()["restarts"] == 1
    assert "answered nothing for 4 s" in server.output


def test_an_engine_that_one_client_keeps_busy_is_left_alone(start_server: StartServer):
    """Its loop is blocked for three times as long as the host's patience, by work and not by a deadlock."""
    server = start_server({"VLLM_WSGI_ENGINE_TIMEOUT": "2"})
    workers = server.engine_workers()
    answer = httpx.post(f"{server.url}/api/chat", json=chat("a !block:6 b", stream=False), timeout=60)
    assert (answer.status_code, answer.json()["message"]["content"]) == (200, "a b ")
    assert (server.engine_workers(), server.status()["restarts"]) == (workers, 0)


def test_a_host_that_was_stopped_itself_blames_no_engine(start_server: StartServer):
    server = start_server({"VLLM_WSGI_ENGINE_TIMEOUT": "4"})
    (host,), workers = server.engine_hosts(), server.engine_workers()
    os.kill(host, signal.SIGSTOP)
    time.sleep(8)
    os.kill(host, signal.SIGCONT)
    time.sleep(1)
    assert post(server, chat("a", stream=False)).status_code == 200
    assert (server.engine_workers(), server.status()["restarts"]) == (workers, 0)


@fault("`SIGSTOP` of the engine host and an engine worker")
def test_an_engine_worker_that_hangs_together_with_its_host_is_noticed(
    start_server: StartServer, pool: ThreadPoolExecutor
):
    """As on a machine that is frozen in parts: nobody is left who could say that the worker hangs."""
    server = start_server(STAY | {"VLLM_WSGI_ENGINE_TIMEOUT": "4", "VLLM_WSGI_HEARTBEAT": "120"})
    web, stopped = server.web_workers(), [*server.engine_hosts(), *server.engine_workers()]
    posts = begin(server, pool, "a !sleep:600 b")
    for each in stopped:
        os.kill(each, signal.SIGSTOP)
    try:
        assert_ended_with_an_error(posts)
        refused = post(server, chat("a", stream=False))
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert httpx.get(f"{server.url}/livez", timeout=20).status_code == 200
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)
    until(lambda: post(server, chat("a", stream=False)).status_code == 200, 120, "both answer again")
    assert server.web_workers() == web
    assert "is lost: it has sent nothing for 4 s" in server.output


@fault("`SIGSTOP` of the engine host")
def test_a_host_that_hangs_is_noticed_without_a_deadline(
    start_server: StartServer, pool: ThreadPoolExecutor, tmp_path: Path
):
    """Requests that wait for it get an error; streams, whose tokens come from the engine worker, go on."""
    server = start_server({"VLLM_WSGI_DEADLINE": "0"})
    (host,), workers, gate = server.engine_hosts(), server.engine_workers(), tmp_path / "gate"
    posts = begin(server, pool, f"a !until:{gate} b")
    os.kill(host, signal.SIGSTOP)
    try:
        bodies = [("/api/embed", {"model": "demo", "input": "a"})]
        bodies += [(path, {**chat("a", stream=False), "max_tokens": 9}) for path in ("/api/chat", *V1)]
        asked = [pool.submit(httpx.post, f"{server.url}{path}", json=body, timeout=120) for path, body in bodies]
        for (path, _), request in zip(bodies, asked, strict=True):
            answer = request.result()
            assert answer.status_code == 503, (path, answer.text)
            assert int(answer.headers["Retry-After"]) > 0
            error = answer.json()["error"]
            assert isinstance(error, dict) == (path in V1), answer.text
            assert "has sent nothing for" in str(error)
        gate.touch()
        assert [post.result().status_code for post in posts] == [200] * len(FORMATS)
    finally:
        gate.touch()
        os.kill(host, signal.SIGCONT)
    until(lambda: post(server, chat("a", stream=False)).status_code == 200, 120, "the host answers again")
    assert (server.engine_hosts(), server.engine_workers()) == ([host], workers)


def test_a_killed_web_worker_is_replaced_and_what_it_asked_for_ends(
    start_server: StartServer, pool: ThreadPoolExecutor
):
    server = start_server()
    (web,), engine = server.web_workers(), server.engine_workers()
    posts = begin(server, pool)
    os.kill(web, signal.SIGKILL)
    assert all(isinstance(post.exception(), httpx.TransportError) for post in posts)
    until(lambda: server.web_workers() not in ([], [web]), 120, "gunicorn starts a new web worker")
    print(f"the engine ran nothing {server.wait_until_idle():.2f} s later")
    assert post(server, chat("a", stream=False)).json()["message"]["content"] == "a "
    assert (server.engine_workers(), server.status()["restarts"]) == (engine, 0)


def test_a_killed_engine_host_takes_its_workers_along_and_is_replaced(
    start_server: StartServer, pool: ThreadPoolExecutor
):
    server = start_server(STAY)
    web, (host,), (worker,) = server.web_workers(), server.engine_hosts(), server.engine_workers()
    posts = begin(server, pool)
    os.kill(host, signal.SIGKILL)
    assert_ended_with_an_error(posts)
    until(lambda: worker not in server.engine_workers(), 120, "the engine worker ends with its host")
    assert_resumes(server)
    assert host not in server.engine_hosts()
    assert [len(pids) for pids in (server.engine_hosts(), server.engine_workers())] == [1, 1]
    assert server.web_workers() == web


def test_texts_are_embedded_when_the_next_engine_host_is_there(start_server: StartServer, pool: ThreadPoolExecutor):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    (host,) = server.engine_hosts()
    body = {"model": "demo", "input": ["!sleep:5 a", "b"]}
    embedded = pool.submit(httpx.post, f"{server.url}/api/embed", json=body, timeout=120)
    until(lambda: server.status().get("running"), 120, "the engine embeds", one_is_done([embedded]))
    os.kill(host, signal.SIGKILL)
    answer = embedded.result()
    assert (answer.status_code, len(answer.json()["embeddings"])) == (200, 2)


def test_a_killed_master_leaves_nothing(start_server: StartServer, pool: ThreadPoolExecutor):
    server = start_server()
    posts = begin(server, pool)
    assert len(server.processes()) == 4
    os.kill(server.master, signal.SIGKILL)
    print(f"everything had ended after {server.wait_until_gone():.2f} s")
    for future in posts:
        assert future.exception() or future.result().status_code in (200, 503)


@pytest.mark.parametrize("streams", [False, True], ids=["idle", "streaming"])
def test_ctrl_c_leaves_nothing_and_prints_no_trace(
    start_server: StartServer, pool: ThreadPoolExecutor, scratch: Path, streams: bool
):
    """A terminal's Ctrl-C reaches the master and the web workers at once."""
    server = start_server()
    posts = begin(server, pool) if streams else []
    server.signal_all(signal.SIGINT)
    print(f"everything had ended after {server.wait_until_gone():.2f} s")
    assert all(future.exception() or future.result().status_code in (200, 503) for future in posts)
    assert "Traceback" not in server.output
    assert list(scratch.iterdir()) == []


def test_sigterm_lets_streams_end_and_leaves_nothing(
    start_server: StartServer, pool: ThreadPoolExecutor, scratch: Path
):
    server = start_server()
    words = " ".join(map(str, range(20)))
    posts = begin(server, pool, f"!rate:10 {words}")
    os.kill(server.master, signal.SIGTERM)
    ndjson, sse, json = [future.result() for future in posts]
    for records in (parse(ndjson.content, NDJSON), parse(sse.content, SSE), [json.json()]):
        assert (text(records), records[-1]["done"]) == (f"{words} ", True)
    print(f"everything had ended {server.wait_until_gone():.2f} s after the last stream")
    assert "Traceback" not in server.output
    assert list(scratch.iterdir()) == []


def test_a_setting_that_can_not_be_used_ends_the_start_with_a_sentence(tmp_path: Path):
    server = Server(tmp_path, {**SCRIPTED, "VLLM_WSGI_HEARTBEAT": "soon"})
    server.wait_until_gone()
    assert "VLLM_WSGI_HEARTBEAT='soon': not a number of seconds" in server.output
    assert "Traceback" not in server.output


def signal_pends(pid: int, number: signal.Signals) -> bool:
    """Whether a stopped process has been sent a signal (Linux: proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = next(line.split()[1] for line in lines if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) >> (number - 1) & 1)


def test_a_model_asked_for_while_it_is_unloaded_is_loaded(start_server: StartServer, pool: ThreadPoolExecutor):
    """Its worker takes long to end, here since it is stopped; the one that is asked for meanwhile must stay."""
    server = start_server()
    (worker,) = server.engine_workers()
    os.kill(worker, signal.SIGSTOP)
    unload = pool.submit(post, server, {"model": "demo", "keep_alive": 0})
    until(lambda: signal_pends(worker, signal.SIGTERM), 120, "the engine worker is told to end")
    load = pool.submit(post, server, chat("a", stream=False))
    # Long enough for a second worker to be there already, where the service starts it before the first has ended.
    wait([load], 1.5)
    os.kill(worker, signal.SIGCONT)
    assert unload.result().json()["done_reason"] == "unload"
    assert (load.result().status_code, load.result().json().get("error")) == (200, None)
    assert post(server, chat("b", stream=False)).status_code == 200
    assert [model["name"] for model in server.models()] == ["demo:latest"]
