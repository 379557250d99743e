"""How many messages the outcomes of requests take to the engine host."""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import Any

import pytest

from service.telemetry.metrics import MetricsReporter


class Enough(Exception):
    """Ends the reporter, which otherwise goes on."""


def test_outcomes_of_the_same_moment_are_one_message(monkeypatch: pytest.MonkeyPatch):
    sent: list[int] = []
    kept: queue.Queue[Any] = queue.Queue()

    def count(ended: list[Any]) -> None:
        sent.append(len(ended))
        raise Enough

    def others_end(seconds: float) -> None:
        assert seconds == 0
        kept.put(2)
        kept.put(3)

    client: Any = SimpleNamespace(count=count)
    monkeypatch.setattr(time, "sleep", others_end)
    kept.put(1)
    with pytest.raises(Enough):
        MetricsReporter(client)._run(kept)
    assert sent == [3]
