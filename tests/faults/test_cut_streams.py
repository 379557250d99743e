"""Connections that break again and again under mixed streams, while a process dies, too. Scripted engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.cut_streams import CutStream
from tests.faults.scripted_streams import requests
from tests.faults.table import fault
from tests.support.answers import NDJSON, SSE
from tests.support.resumed import POSTS, Pieces
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import one_is_done, until

# Less than a record of some dialects has.
MOST_BYTES = 300


@pytest.fixture(scope="module")
def two_web_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {**SCRIPTED, "VLLM_WSGI_MOVES": "2", "WEB_CONCURRENCY": "2"}
    server = Server.start(tmp_path_factory.mktemp("cut"), env)
    yield server
    server.stop()


def bodies(gates: Path) -> list[tuple[str, dict[str, Any], str]]:
    """Those that can be resumed: path, body and the format that is asked for, each in both."""
    streams = [(path, body) for path, body in requests(gates) if path in POSTS and body.get("stream") in (None, True)]
    return [(path, {**body, "stream": True}, accept) for path, body in streams for accept in (NDJSON, SSE)]


def undisturbed(server: Server, gates: Path) -> list[Any]:
    for gate in ("1", "2"):
        (gates / gate).touch()
    answers = []
    for path, body, accept in bodies(gates):
        pieces = Pieces()
        answer = httpx.post(f"{server.url}{path}", json={**body, "resumable": True}, headers={"Accept": accept})
        pieces.take(answer.content, NDJSON if answer.headers["Content-Type"] == NDJSON else SSE)
        assert pieces.ended
        answers.append(pieces.said())
    return answers


def kill_nobody(server: Server) -> None:
    pass


def kill_web_worker(server: Server) -> None:
    os.kill(server.web_workers()[0], signal.SIGKILL)


def kill_engine(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGKILL)


@fault("a client's connection that breaks again and again")
@pytest.mark.parametrize("harm", [kill_nobody, kill_web_worker, kill_engine])
def test_streams_that_are_cut_again_and_again_are_whole(
    two_web_workers: Server, tmp_path: Path, harm: Callable[[Server], None]
):
    open_gates, gates = tmp_path / "open", tmp_path / "gates"
    for directory in (open_gates, gates):
        directory.mkdir()
    two_web_workers.wait_until_ready()
    whole = undisturbed(two_web_workers, open_gates)
    url = two_web_workers.url
    streams = [CutStream(url, *body, seed=number, most=MOST_BYTES) for number, body in enumerate(bodies(gates))]
    with ThreadPoolExecutor(len(streams)) as pool:
        try:
            futures = [pool.submit(each.run) for each in streams]
            # They wait at the first gate then.
            until(lambda: all(each.address for each in streams), 120, "all have begun", one_is_done(futures))
            harm(two_web_workers)
        finally:
            for gate in ("1", "2"):
                (gates / gate).touch()
        assert [each.result().said() for each in futures] == whole
    assert all(each.cuts for each in streams)
