"""Web tier and engine host over TLS on one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cluster.machines import REQUESTS, WHOLE, Apart, answers, begin
from tests.support.answers import NDJSON, chat, text
from tests.support.servers import ROOT, clean_environment, free_port


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    apart = Apart(tmp_path)
    yield apart
    apart.stop()


def test_streams_move_when_their_engine_dies(apart: Apart):
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        posts = begin(apart.server, pool)
        (worker,) = apart.host.running("service.engine.worker.process")
        os.kill(worker, signal.SIGKILL)
        assert answers(posts) == WHOLE


@pytest.fixture
def at_one_port(tmp_path: Path) -> Iterator[Apart]:
    """Each engine worker has the port of the one before it."""
    apart = Apart(tmp_path, ports=str(free_port()))
    yield apart
    apart.stop()


def test_a_restart_ends_and_loses_no_stream_when_the_new_worker_has_the_old_ones_port(at_one_port: Apart):
    url = at_one_port.server.url
    ended = httpx.post(f"{url}/api/chat", json=chat("a b c", resumable=True), timeout=120)
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        posts = begin(at_one_port.server, pool)
        done = subprocess.run(
            [sys.executable, "-m", "service", "restart", "--pause", "--wait", "0"], cwd=ROOT,
            env=clean_environment(at_one_port.web_settings()), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].endswith("is ready again")
        assert answers(posts) == WHOLE
    again = httpx.get(f"{url}{ended.headers['Content-Location']}", headers={"Accept": NDJSON}, timeout=120)
    assert again.status_code == 200, again.text
    assert text([json.loads(line) for line in again.text.splitlines()]) == "a b c "
