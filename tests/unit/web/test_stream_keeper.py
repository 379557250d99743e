"""A client that comes back to a web worker that can't serve its stream now. No engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import Settings, create_blueprint
from service.access.key_file import ANYONE
from service.access.stream_ids import new_stream_id
from service.errors import GoingDown
from service.web import stream_keeper
from tests.support.answers import NDJSON, SSE, chat


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    def refuse() -> None:
        raise GoingDown

    monkeypatch.setattr(stream_keeper, "refuse_while_draining", refuse)
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(Settings(engine_socket=str(tmp_path / "nobody.sock"))))
    return app.test_client()


def test_an_event_source_comes_back_after_a_stream_that_ends_at_once(client: FlaskClient):
    """It does not after a 503 (WHATWG HTML §9.2.3)."""
    answer = client.get(f"/api/streams/{new_stream_id(ANYONE)}", headers={"Accept": SSE})
    assert (answer.status_code, answer.text) == (200, "retry: 2000\n\n")


def test_others_get_a_503(client: FlaskClient):
    made = new_stream_id(ANYONE)
    read = client.get(f"/api/streams/{made}", headers={"Accept": NDJSON})
    headers = {"Accept": SSE, "Last-Event-ID": f"{made}.1-1"}
    asked_again = client.post("/api/chat", json=chat("a", resumable=True), headers=headers)
    for answer in (read, asked_again):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
