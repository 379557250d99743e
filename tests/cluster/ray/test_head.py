"""The head of a Ray cluster dies with all that runs beside it, and Redis keeps what it knew."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from tests.cluster.ray.fleet import Fleet
from tests.faults.scripted_streams import streams, undisturbed_answers
from tests.support.answers import chat


@pytest.mark.skipif(
    not shutil.which("redis-server"), reason="without redis-server, a head that dies forgets everything"
)
def test_streams_outlive_the_head_and_the_next_one_finds_every_engine_worker(fleet: Fleet, tmp_path: Path):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = undisturbed_answers(fleet.server, tmp_path / "undisturbed")
    before = fleet.workers()
    with streams(fleet.server, tmp_path) as begun:
        fleet.lose_head()
        os.kill(fleet.host.pid, signal.SIGKILL)
        fleet.host.wait_until_gone()
        begun.pass_first_gate()
        # What is loaded serves new requests, too.
        answer = httpx.post(f"{fleet.server.url}/api/chat", json=chat("again", stream=False), timeout=120)
        assert answer.json()["message"]["content"].split() == ["again"]
        fleet.start_head()
        fleet.start_host()
        assert begun.end() == undisturbed
    fleet.wait_until_whole()
    assert fleet.workers() == before
    assert fleet.host.output.count("takes over") == 2
    assert (fleet.nodes(), fleet.free_gpus()) == (2, 0)
