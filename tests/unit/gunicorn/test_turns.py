"""A burst of requests leaves gevent's hub its turns."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest
from gunicorn.workers.ggevent import GeventWorker

from service.gunicorn.worker import WebWorker


def test_the_hub_has_a_turn_before_each_request(monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    monkeypatch.setattr(GeventWorker, "handle_request", lambda *_: seen.append("answer"))
    monkeypatch.setattr(WebWorker, "_drain", lambda *_: True)
    worker = WebWorker.__new__(WebWorker)
    for _ in range(2):
        gevent.get_hub().loop.run_callback(seen.append, "look")
        worker.handle_request(None, SimpleNamespace(body=None), None, None)
    assert seen == ["look", "answer", "look", "answer"]
