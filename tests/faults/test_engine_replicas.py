"""Two real engines of one model: one is killed, and both are replaced one after the other, under mixed streams.

It loads vLLM six times, so that only `make test-faults` runs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.test_engine_core import ENGINE_TIMEOUT, KINDS, PATHS, READY_SECONDS, Records, whole
from tests.support.asking import WEATHER, Asker, user
from tests.support.servers import PATIENCE_SECONDS, ROOT, Server, clean_environment, one_is_done, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

MODELS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true
replicas = 2
# Room for all streams on one of them: a kilobyte a token, in blocks of 128.
engine_args = {{ kv_cache_memory_bytes = 134_217_728 }}
"""
STORY = "Tell me a long story"
SAMPLED: dict[str, Any] = {"stream": True, "seed": 11, "temperature": 0.9, "max_tokens": 400}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
# What the other dialects are asked for: the path, and the body.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED}),
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED, "n": 2}),
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED, "tools": [WEATHER], **THINKING}),
    ("/v1/completions", {"prompt": "Once", **SAMPLED, "stop": ["never said"]}),
    ("/v1/responses", {"input": STORY, "stream": True, "temperature": 0, "max_output_tokens": 400}),
    ("/v1/messages", {"messages": user(STORY), "stream": True, "temperature": 0, "max_tokens": 400}),
]
# Where the events of the other dialects hold what was said; everything else in them is a stamp, an id or a frame.
SPOKEN = ("content", "text", "delta", "thinking", "reasoning_content", "arguments", "partial_json", "finish_reason")


@pytest.fixture(scope="module")
def replicated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not request.config.getoption("--write-faults", default=False):
        pytest.skip("it takes minutes: `make test-faults` runs it")
    directory = tmp_path_factory.mktemp("replicated")
    (directory / "models.toml").write_text(MODELS)
    env = {"VLLM_WSGI_MODELS": str(directory / "models.toml"), "VLLM_WSGI_ENGINE_TIMEOUT": str(ENGINE_TIMEOUT)}
    server = Server.start(directory, env, READY_SECONDS)
    yield server
    server.stop(60)


def spoken(value: Any, key: str = "") -> str:
    """What the leaves of an event say, in their order."""
    if isinstance(value, dict):
        return "".join(spoken(each, name) for name, each in value.items())
    if isinstance(value, list):
        return "".join(spoken(each, key) for each in value)
    return str(value) if key in SPOKEN and value is not None else ""


def ask_other(server: Server, path: str, body: dict[str, Any]) -> Any:
    """What was said in all, by answer, and the last usage."""
    text = httpx.post(f"{server.url}{path}", json={"model": "demo", **body}, timeout=READY_SECONDS).text
    events = [
        json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and line != "data: [DONE]"
    ]
    assert not any("error" in event for event in events), events[-1]
    by_answer: dict[int, str] = {}
    for event in events:
        # An event that repeats the whole answer adds nothing.
        parts = event.get("choices", [event] if "delta" in event else [])
        for part in parts:
            index = part.get("index", 0)
            by_answer[index] = by_answer.get(index, "") + spoken(part.get("delta", part.get("text")), "text")
    return by_answer, text.count("[DONE]"), events[-1].get("type", "")


def begin(server: Server, asker: Asker, pool: ThreadPoolExecutor) -> list[Future[Any]]:
    def ours(read: Any, kind: dict[str, Any]) -> Any:
        records: Records = read(PATHS[next(iter(kind))], **kind)
        return whole(records)

    natives = [pool.submit(ours, read, kind) for kind in KINDS for read in (asker.ndjson, asker.sse)]
    return natives + [pool.submit(ask_other, server, path, body) for path, body in OTHERS]


STREAMS = 2 * len(KINDS) + len(OTHERS)


@pytest.fixture(scope="module")
def undisturbed(replicated: Server) -> list[Any]:
    wait_until_both_are_ready(replicated)
    asker = Asker(replicated.url)
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = [stream.result() for stream in begin(replicated, asker, pool)]
    asker.close()
    return answers


@pytest.fixture
def streams(replicated: Server, undisturbed: list[Any]) -> Iterator[list[Future[Any]]]:
    wait_until_both_are_ready(replicated)
    asker = Asker(replicated.url)
    with ThreadPoolExecutor(STREAMS) as pool:
        futures = begin(replicated, asker, pool)
        # The first two last longest. Shorter ones may have ended by then.
        until(
            lambda: all(replica["running"] >= 4 for replica in replicas(replicated)), PATIENCE_SECONDS,
            "streams run on both", one_is_done(futures[:2]),
        )  # fmt: skip
        yield futures
    asker.close()


def replicas(server: Server) -> list[dict[str, Any]]:
    return list(server.status().get("replicas", []))


def wait_until_both_are_ready(server: Server) -> None:
    until(lambda: [each["state"] for each in replicas(server)] == ["ready"] * 2, READY_SECONDS, "both are ready")


def assert_all_are_whole(streams: list[Future[Any]], undisturbed: list[Any]) -> None:
    took = until(lambda: all(stream.done() for stream in streams), READY_SECONDS, "every stream ends")
    differing = [
        (number, stream.result(), answer)
        for number, (stream, answer) in enumerate(zip(streams, undisturbed, strict=True))
        if stream.result() != answer
    ]
    print(f"{len(streams)} streams ended after {took:.2f} s; {len(differing)} differ")
    assert differing == []


def moved(server: Server) -> int:
    """How many requests have moved so far, by the request log."""
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith('{"time"')]
    return sum(line["moves"] > 0 for line in lines)


def test_the_streams_of_a_killed_replica_continue_on_the_other_one(
    replicated: Server, streams: list[Future[Any]], undisturbed: list[Any]
) -> None:
    before = moved(replicated)
    os.kill(replicated.engine_workers()[0], signal.SIGKILL)
    assert_all_are_whole(streams, undisturbed)
    print(f"{moved(replicated) - before} of them moved")
    assert moved(replicated) > before


def test_a_rolling_restart_cuts_no_stream(
    replicated: Server, streams: list[Future[Any]], undisturbed: list[Any]
) -> None:
    before, workers = moved(replicated), replicated.engine_workers()
    socket = psutil.Process(replicated.engine_hosts()[0]).environ()["VLLM_WSGI_ENGINE_SOCKET"]
    done = subprocess.run(
        [sys.executable, "-m", "service", "restart", "--socket", socket, "--wait", "0"],
        cwd=ROOT, env=clean_environment({}), capture_output=True, text=True, timeout=READY_SECONDS,
    )  # fmt: skip
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert not set(workers) & set(replicated.engine_workers())
    assert_all_are_whole(streams, undisturbed)
    print(f"{moved(replicated) - before} of them moved")
    assert moved(replicated) > before
