"""Web tier and engine host over TLS on one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.machines import REQUESTS, WHOLE, Apart, answers, begin


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
