"""The processes of a real engine killed and stopped while streams are open. One server, harmed again and again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.load import FILES, MEMORY, holdings, pids
from tests.faults.table import fault
from tests.support.asking import Asker, terminal
from tests.support.servers import PATIENCE_SECONDS, Server, generate, one_is_done, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

READY_SECONDS = 300.0
ENGINE_TIMEOUT = 6.0
# The schema keeps the model from ending before all that has been written.
LONG: dict[str, Any] = {
    "prompt": "Count from 1 to 50",
    "think": False,
    "format": {"type": "array", "items": {"type": "integer"}, "minItems": 900},
    "options": {"num_predict": 1900},
}

Streams = list[Future[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"VLLM_WSGI_ENGINE_TIMEOUT": str(ENGINE_TIMEOUT), "VLLM_WSGI_LOG_REQUESTS": "0"}
    server = Server.start(tmp_path_factory.mktemp("harmed"), env, READY_SECONDS)
    yield server
    server.stop(60)


@pytest.fixture
def streams(harmed: Server) -> Iterator[Streams]:
    """Four streams that are being generated, two in each format."""
    harmed.wait_until_ready(READY_SECONDS)
    asker = Asker(harmed.url)
    with ThreadPoolExecutor(4) as pool:
        reads = [asker.ndjson, asker.ndjson, asker.sse, asker.sse]
        futures = [pool.submit(read, "/api/generate", **LONG) for read in reads]
        harmed.wait_until_running(4, unless=one_is_done(futures))
        yield futures
    asker.close()


def engine_core(server: Server) -> psutil.Process:
    return next(each for each in server.processes() if "EngineCore" in " ".join(each.cmdline()))


def assert_all_end_in_one_error(streams: Streams) -> None:
    took = until(lambda: all(stream.done() for stream in streams), PATIENCE_SECONDS, "every stream ends")
    print(f"the streams ended after {took:.2f} s")
    for stream in streams:
        records = stream.result()
        assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True]
        assert "error" in records[-1]


def assert_service_resumes(server: Server, web_workers: list[int]) -> None:
    print(f"service resumed after {server.wait_until_ready(READY_SECONDS):.1f} s")
    assert server.web_workers() == web_workers
    answer = httpx.post(f"{server.url}/api/generate", json=generate("Hello", stream=False), timeout=60)
    assert answer.json()["done"]
    server.wait_until_idle()


@fault("`kill -9` of vLLM's EngineCore")
def test_a_killed_engine_core_ends_its_streams_and_is_replaced(harmed: Server, streams: Streams) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    before, web = holdings(pids(harmed)), holdings(web_workers)
    core.kill()
    assert_all_end_in_one_error(streams)
    until(lambda: harmed.status().get("state") != "ready", 60, "the host has noticed")
    refused = httpx.post(f"{harmed.url}/api/generate", json={"model": "demo", "prompt": "Hello"})
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/json; charset=utf-8")
    assert int(refused.headers["retry-after"]) > 0
    assert_service_resumes(harmed, web_workers)
    # The new engine is another process, whose memory is its own.
    assert holdings(pids(harmed)).files <= before.files + FILES
    assert holdings(web_workers).memory <= web.memory + MEMORY


def test_an_engine_core_that_hangs_is_replaced(harmed: Server, streams: Streams) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    core.suspend()
    assert_all_end_in_one_error(streams)
    until(lambda: not psutil.pid_exists(core.pid) or core.status() == psutil.STATUS_ZOMBIE, 60, "it is gone")
    assert_service_resumes(harmed, web_workers)


@fault("`kill -9` of an engine worker")
def test_a_killed_worker_takes_its_engine_core_with_it(harmed: Server, streams: Streams) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    (worker,) = harmed.engine_workers()
    os.kill(worker, signal.SIGKILL)
    assert_all_end_in_one_error(streams)
    until(lambda: core not in harmed.processes(), 60, "its EngineCore is gone")
    until(lambda: harmed.status().get("state") != "ready", 60, "the host has noticed")
    assert_service_resumes(harmed, web_workers)


@fault("`kill -9` of a web worker")
def test_a_killed_web_worker_leaves_nothing_running_in_vllm(harmed: Server, streams: Streams) -> None:
    (worker,) = harmed.web_workers()
    os.kill(worker, signal.SIGKILL)
    print(f"vLLM ran nothing after {harmed.wait_until_idle():.2f} s")
    assert all(isinstance(stream.exception(PATIENCE_SECONDS), httpx.TransportError) for stream in streams)
    assert_service_resumes(harmed, harmed.web_workers())


@fault("500 clients that vanish mid-stream")
def test_vllm_runs_nothing_for_clients_that_vanish(harmed: Server) -> None:
    harmed.wait_until_ready(READY_SECONDS)
    before = holdings(pids(harmed)).files
    body = json.dumps({"model": "demo", **LONG}).encode()
    vanishing = [harmed.connect() for _ in range(500)]
    for connection in vanishing:
        connection.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body)
    # The others wait for their turn.
    until(lambda: harmed.status()["running"] >= 100, 60, "vLLM runs a hundred of them")
    for connection in vanishing:
        connection.close()
    print(f"vLLM ran nothing after {harmed.wait_until_idle():.2f} s")
    until(lambda: holdings(pids(harmed)).files <= before + FILES, 60, "their descriptors are free")
    assert_service_resumes(harmed, harmed.web_workers())


@fault("`kill -9` of the engine host")
def test_a_killed_host_takes_its_worker_and_engine_core_with_it(harmed: Server, streams: Streams) -> None:
    web_workers, engine = harmed.web_workers(), [*harmed.engine_workers(), engine_core(harmed).pid]
    (host,) = harmed.engine_hosts()
    os.kill(host, signal.SIGKILL)
    assert_all_end_in_one_error(streams)
    until(lambda: not {each.pid for each in harmed.processes()} & set(engine), 60, "the engine is gone")
    assert_service_resumes(harmed, web_workers)
