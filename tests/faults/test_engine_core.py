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

from tests.faults.load import FILES, holdings, pids
from tests.faults.table import fault
from tests.support.answers import generate, terminal
from tests.support.asking import WEATHER, Asker, content, user
from tests.support.servers import Server
from tests.support.waiting import PATIENCE_SECONDS, one_is_done, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

READY_SECONDS = 1000.0
# Longer than a busy machine takes to compile the largest of the schemas below, during which the core answers nothing.
ENGINE_TIMEOUT = 30.0
# The schema keeps the model from ending before all that has been written.
LONG: dict[str, Any] = {
    "prompt": "Count from 1 to 50",
    "think": False,
    "format": {"type": "array", "items": {"type": "integer"}, "minItems": 900},
    "options": {"num_predict": 1900},
}
STORY: dict[str, Any] = {"messages": user("Tell me a long story"), "think": False}
PATHS = {"messages": "/api/chat", "prompt": "/api/generate"}
# What the streams ask for. Each of them is asked in both formats, and undisturbed first.
KINDS: list[dict[str, Any]] = [
    LONG,
    {**LONG, "options": {"num_predict": 700}},
    {**STORY, "options": {"num_predict": 400}},
    {**STORY, "options": {"num_predict": 400, "seed": 7, "temperature": 0.9}},
    {**STORY, "options": {"num_predict": 400, "seed": 8, "temperature": 0.9, "top_p": 0.9, "top_k": 40}},
    {**STORY, "options": {"num_predict": 300, "repeat_penalty": 1.4, "seed": 3, "temperature": 0.7}},
    {**STORY, "options": {"num_predict": 300, "stop": ["never said"], "seed": 5, "temperature": 1}},
    {**STORY, "logprobs": True, "top_logprobs": 2, "options": {"num_predict": 300, "seed": 9, "temperature": 0.9}},
    {**STORY, "think": True, "options": {"num_predict": 400, "seed": 2, "temperature": 0.9}},
    {**STORY, "think": True, "tools": [WEATHER], "options": {"num_predict": 400, "seed": 1, "temperature": 0.9}},
    {**LONG, "think": True, "options": {"num_predict": 900}},
    {"prompt": "Once", "raw": True, "options": {"num_predict": 400, "seed": 4, "temperature": 1}},
]

Records = list[dict[str, Any]]
Streams = list[Future[Records]]


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"VLLM_WSGI_ENGINE_TIMEOUT": str(ENGINE_TIMEOUT), "VLLM_WSGI_LOG_REQUESTS": "0"}
    server = Server.start(tmp_path_factory.mktemp("harmed"), env, READY_SECONDS)
    yield server
    server.stop(60)


def begin(asker: Asker, pool: ThreadPoolExecutor) -> Streams:
    asks = [(read, kind) for kind in KINDS for read in (asker.ndjson, asker.sse)]
    return [pool.submit(read, PATHS[next(iter(kind))], **kind) for read, kind in asks]


@pytest.fixture(scope="module")
def undisturbed(harmed: Server) -> list[Any]:
    asker = Asker(harmed.url)
    with ThreadPoolExecutor(2 * len(KINDS)) as pool:
        answers = [whole(stream.result()) for stream in begin(asker, pool)]
    asker.close()
    return answers


@pytest.fixture
def streams(harmed: Server, undisturbed: list[Any]) -> Iterator[Streams]:
    """Streams of each kind that are being generated, in both formats."""
    harmed.wait_until_ready(READY_SECONDS)
    asker = Asker(harmed.url)
    with ThreadPoolExecutor(2 * len(KINDS)) as pool:
        futures = begin(asker, pool)
        # The first two last longest. Shorter ones may have ended by then.
        running = lambda: harmed.status().get("running", 0) >= 4  # noqa: E731
        until(running, PATIENCE_SECONDS, "the streams run", unless=one_is_done(futures[:2]))
        yield futures
    asker.close()


def whole(records: Records) -> tuple[Any, ...]:
    """An answer without its stamps and durations, however its pieces were joined."""
    assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True], records[-1]
    assert "error" not in records[-1], records[-1]
    messages = [record.get("message", record) for record in records]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    tokens = [token["token"] for record in records for token in record.get("logprobs") or []]
    end = {name: records[-1].get(name) for name in ("error", "done_reason", "prompt_eval_count", "eval_count")}
    thinking = "".join(message.get("thinking") or "" for message in messages)
    return content(records), thinking, calls, tokens, end


def engine_core(server: Server) -> psutil.Process:
    return next(each for each in server.processes() if "EngineCore" in " ".join(each.cmdline()))


def assert_all_are_whole(streams: Streams, undisturbed: list[Any]) -> None:
    took = until(lambda: all(stream.done() for stream in streams), READY_SECONDS, "every stream ends")
    print(f"the streams ended after {took:.2f} s")
    for kind, stream, answer in zip([kind for kind in KINDS for _ in range(2)], streams, undisturbed, strict=True):
        assert whole(stream.result()) == answer, kind


def assert_service_resumes(server: Server, web_workers: list[int]) -> None:
    print(f"service resumed after {server.wait_until_ready(READY_SECONDS):.1f} s")
    assert server.web_workers() == web_workers
    answer = httpx.post(f"{server.url}/api/generate", json=generate("Hello", stream=False), timeout=120)
    assert answer.json()["done"]
    server.wait_until_idle()


@fault("`kill -9` of vLLM's EngineCore")
def test_a_killed_engine_core_is_replaced_and_its_streams_continue(
    harmed: Server, streams: Streams, undisturbed: list[Any]
) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    before = holdings(pids(harmed))
    core.kill()
    until(lambda: harmed.status().get("state") != "ready", PATIENCE_SECONDS, "the host has noticed")
    refused = httpx.post(f"{harmed.url}/api/generate", json={"model": "demo", "prompt": "Hello"})
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/json; charset=utf-8")
    assert int(refused.headers["retry-after"]) > 0
    assert_all_are_whole(streams, undisturbed)
    assert_service_resumes(harmed, web_workers)
    assert holdings(pids(harmed)).files <= before.files + FILES


@fault("`SIGSTOP` of vLLM's EngineCore")
def test_an_engine_core_that_hangs_is_replaced(harmed: Server, streams: Streams, undisturbed: list[Any]) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    core.suspend()
    assert_all_are_whole(streams, undisturbed)
    until(
        lambda: not psutil.pid_exists(core.pid) or core.status() == psutil.STATUS_ZOMBIE, PATIENCE_SECONDS, "it is gone"
    )
    assert_service_resumes(harmed, web_workers)


@fault("`kill -9` of an engine worker")
def test_a_killed_worker_takes_its_engine_core_with_it(
    harmed: Server, streams: Streams, undisturbed: list[Any]
) -> None:
    web_workers, core = harmed.web_workers(), engine_core(harmed)
    (worker,) = harmed.engine_workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: core not in harmed.processes(), PATIENCE_SECONDS, "its EngineCore is gone")
    assert_all_are_whole(streams, undisturbed)
    assert_service_resumes(harmed, web_workers)


@fault("`kill -9` of a web worker")
def test_a_killed_web_worker_leaves_nothing_running_in_vllm(
    harmed: Server, streams: Streams, undisturbed: list[Any]
) -> None:
    (worker,) = harmed.web_workers()
    os.kill(worker, signal.SIGKILL)
    print(f"vLLM ran nothing after {harmed.wait_until_idle():.2f} s")
    failures = [stream.exception(PATIENCE_SECONDS) for stream in streams]
    assert all(isinstance(failure, httpx.TransportError) for failure in failures[:2])
    for stream, failure, answer in zip(streams, failures, undisturbed, strict=True):
        # A short one may have ended before.
        assert isinstance(failure, httpx.TransportError) or whole(stream.result()) == answer
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
    until(lambda: harmed.status()["running"] >= 100, 120, "vLLM runs a hundred of them")
    for connection in vanishing:
        connection.close()
    print(f"vLLM ran nothing after {harmed.wait_until_idle():.2f} s")
    until(lambda: holdings(pids(harmed)).files <= before + FILES, 120, "their descriptors are free")
    assert_service_resumes(harmed, harmed.web_workers())


@fault("`kill -9` of the engine host")
def test_a_killed_host_takes_its_worker_and_engine_core_with_it(
    harmed: Server, streams: Streams, undisturbed: list[Any]
) -> None:
    web_workers, engine = harmed.web_workers(), [*harmed.engine_workers(), engine_core(harmed).pid]
    (host,) = harmed.engine_hosts()
    os.kill(host, signal.SIGKILL)
    until(lambda: not {each.pid for each in harmed.processes()} & set(engine), PATIENCE_SECONDS, "the engine is gone")
    assert_all_are_whole(streams, undisturbed)
    assert_service_resumes(harmed, web_workers)
