"""Two real engines of one model, harmed one at a time, and clients that are cut, under mixed streams.

It loads vLLM a dozen times, so that only `make test-faults` runs it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.faults import dialect_streams
from tests.faults.cut_streams import CutStream, read_response
from tests.faults.dialect_streams import OPENAI, RESPONSE
from tests.faults.mixed_streams import (
    LONGEST,
    NATIVES,
    STREAMS,
    Streams,
    assert_all_are_whole,
    mixed_streams,
    replicas,
    some_move,
    wait_until_both_run,
)
from tests.faults.table import fault
from tests.faults.test_engine_core import ENGINE_TIMEOUT, READY_SECONDS, whole
from tests.support.answers import NDJSON, SSE
from tests.support.servers import ROOT, Server, clean_environment
from tests.support.waiting import PATIENCE_SECONDS, one_is_done, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3000)]

MODELS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true
replicas = 2
# Room for all streams on one of them: a kilobyte a token, in blocks of 128.
engine_args = {{ kv_cache_memory_bytes = 134_217_728 }}
"""
# The log's line for a stream that has lost its engine.
MOVES_ON = " moves to another engine: "


@pytest.fixture(scope="module")
def replicated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not request.config.getoption("--write-faults", default=False):
        pytest.skip("it takes minutes: `make test-faults` runs it")
    directory = tmp_path_factory.mktemp("replicated")
    (directory / "models.toml").write_text(MODELS)
    env = {"VLLM_WSGI_MODELS": str(directory / "models.toml"), "VLLM_WSGI_ENGINE_TIMEOUT": str(ENGINE_TIMEOUT)}
    server = Server.start(directory, env | {"WEB_CONCURRENCY": "2"}, READY_SECONDS)
    yield server
    server.stop(60)


def begin_cut(server: Server, pool: ThreadPoolExecutor) -> tuple[list[CutStream], Streams]:
    """Begin all but the last, which can't be resumed. Their connections are cut again and again."""

    def stream(path: str, body: dict[str, Any], accept: str) -> CutStream:
        return CutStream(server.url, path, {"model": "demo", **body}, accept, seed=len(cut))

    cut: list[CutStream] = []
    futures: Streams = []
    for path, body in NATIVES:
        for accept in (NDJSON, SSE):
            cut.append(stream(path, body, accept))
            futures.append(pool.submit(lambda each=cut[-1]: whole(each.run().records)))
    for path, body in OPENAI:
        cut.append(stream(path, body, SSE))
        futures.append(pool.submit(lambda each=cut[-1]: dialect_streams.said(each.run().records)))
    response = {"model": "demo", **RESPONSE}
    futures.append(pool.submit(lambda: dialect_streams.said(read_response(server.url, response, seed=len(cut)))))
    return cut, futures


@pytest.fixture(scope="module")
def undisturbed(replicated: Server) -> list[Any]:
    wait_until_both_are_ready(replicated)
    with mixed_streams(replicated.url) as streams:
        return [stream.result() for stream in streams]


@pytest.fixture
def streams(replicated: Server, undisturbed: list[Any]) -> Iterator[Streams]:
    wait_until_both_are_ready(replicated)
    with mixed_streams(replicated.url) as futures:
        wait_until_both_run(replicated, futures)
        yield futures


def wait_until_both_are_ready(server: Server) -> None:
    until(lambda: [each["state"] for each in replicas(server)] == ["ready"] * 2, READY_SECONDS, "both are ready")


def signal_worker(server: Server, number: signal.Signals) -> None:
    os.kill(server.engine_workers()[0], number)


def kill_worker(server: Server) -> None:
    signal_worker(server, signal.SIGKILL)


def kill_both(server: Server) -> None:
    """The second one as soon as streams move to it, so that it has brought no token of them yet."""
    first, second = server.engine_workers()
    before = server.output.count(MOVES_ON)
    os.kill(first, signal.SIGKILL)
    until(lambda: server.output.count(MOVES_ON) > before, PATIENCE_SECONDS, "streams move")
    os.kill(second, signal.SIGKILL)


def stop_worker(server: Server) -> None:
    signal_worker(server, signal.SIGSTOP)


def stop_core(server: Server) -> None:
    children = psutil.Process(server.engine_workers()[0]).children(recursive=True)
    next(child for child in children if "EngineCore" in " ".join(child.cmdline())).suspend()


def end_worker(server: Server) -> None:
    signal_worker(server, signal.SIGTERM)


def restart_all(server: Server) -> None:
    workers = server.engine_workers()
    socket = psutil.Process(server.engine_hosts()[0]).environ()["VLLM_WSGI_ENGINE_SOCKET"]
    done = subprocess.run(
        [sys.executable, "-m", "service", "restart", "--socket", socket, "--wait", "0"],
        cwd=ROOT, env=clean_environment({}), capture_output=True, text=True, timeout=READY_SECONDS,
    )  # fmt: skip
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert not set(workers) & set(server.engine_workers())


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(kill_worker, marks=fault("`kill -9` of one of two replicas")),
        pytest.param(kill_both, marks=fault("`kill -9` of one of two replicas")),
        pytest.param(stop_worker, marks=fault("`SIGSTOP` of one of two replicas")),
        pytest.param(stop_core, marks=fault("`SIGSTOP` of vLLM's EngineCore")),
        pytest.param(end_worker, marks=fault("`SIGTERM` of one of two replicas")),
        pytest.param(restart_all, marks=fault("`vllm-wsgi restart` of two replicas")),
    ],
)
def test_every_stream_continues_on_another_engine(
    replicated: Server, streams: Streams, undisturbed: list[Any], harm: Callable[[Server], None]
) -> None:
    with some_move(replicated):
        harm(replicated)
        assert_all_are_whole(streams, undisturbed)


def kill_nothing(server: Server) -> None:
    pass


def kill_web_worker(server: Server) -> None:
    os.kill(server.web_workers()[0], signal.SIGKILL)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(kill_nothing, marks=fault("a client's connection that breaks again and again")),
        kill_web_worker,
    ],
)
def test_streams_that_are_cut_again_and_again_are_whole(
    replicated: Server, undisturbed: list[Any], harm: Callable[[Server], None]
) -> None:
    wait_until_both_are_ready(replicated)
    with ThreadPoolExecutor(STREAMS) as pool:
        cut, futures = begin_cut(replicated, pool)
        # A client that has no address yet would have to ask anew.
        begun = lambda: all(each.address for each in cut)  # noqa: E731
        until(begun, READY_SECONDS, "all have begun", one_is_done(futures[:LONGEST]))
        harm(replicated)
        assert_all_are_whole(futures, undisturbed[: len(futures)])
    print(f"{sum(each.cuts for each in cut)} cuts of {len(cut)} streams")
    assert all(each.cuts for each in cut)
