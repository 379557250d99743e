"""Whether requests should be sent here: `/livez` and `/readyz`. Scripted engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.config import Settings
from service.version import VLLM_VERSION
from service.web.blueprint import create_blueprint
from tests.support.answers import chat
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until


def application(tmp_path: Path, prefix: str | None = None) -> FlaskClient:
    """The blueprint in an application whose engine is not there."""
    app = Flask(__name__, static_folder=None)
    settings = Settings(engine_socket=str(tmp_path / "engine.sock"))
    app.register_blueprint(create_blueprint(settings), url_prefix=prefix)
    return app.test_client()


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")])
def test_vllms_health_is_an_empty_answer(client: httpx.Client, tmp_path: Path, method: str, path: str):
    ready = client.request(method, path)
    assert (ready.status_code, ready.content, ready.headers["Cache-Control"]) == (200, b"", "no-store")
    assert application(tmp_path).open(path, method=method).status_code == 503


def test_the_version_is_that_of_vllms_server(client: httpx.Client):
    answer = client.get("/version")
    assert (answer.status_code, answer.json()) == (200, {"version": VLLM_VERSION})
    assert client.head("/version").content == b""


def readiness(server: Server) -> httpx.Response:
    return httpx.get(f"{server.url}/readyz")


@pytest.mark.parametrize("prefix", [None, "/llm"])
def test_without_an_engine_it_lives_and_is_not_ready(tmp_path: Path, prefix: str | None):
    client = application(tmp_path, prefix)
    assert client.get(f"{prefix or ''}/livez").json == {"status": "alive"}
    ready = client.get(f"{prefix or ''}/readyz")
    assert (ready.status_code, int(ready.headers["Retry-After"]) > 0) == (503, True)
    assert ready.headers["Cache-Control"] == "no-store"
    assert ready.json["error"].startswith("the engine can't be reached")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_an_answer_is_never_cached_and_heads_are_answered(client: httpx.Client, path: str):
    assert client.get(path).headers["Cache-Control"] == "no-store"
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_it_is_ready_once_its_pinned_model_is(tmp_path: Path):
    server = Server(tmp_path, SCRIPTED | {"VLLM_WSGI_ENGINE_ARGS": '{"load_seconds": 6}'})
    server.wait_until_serving()
    loading = readiness(server)
    assert (loading.status_code, loading.json()) == (503, {"error": "demo:latest is loading"})
    server.wait_until_ready()
    assert readiness(server).json() == {"status": "ready"}
    server.stop()


def test_models_that_are_loaded_when_asked_for_need_not_be_loaded(tmp_path: Path):
    models = tmp_path / "models.toml"
    models.write_text('[models.one]\nsource = "models/demo"\n')
    server = Server(tmp_path, SCRIPTED | {"VLLM_WSGI_MODELS": str(models)})
    server.wait_until_serving()
    assert (readiness(server).status_code, server.models()) == (200, [])
    server.stop()


def test_a_full_queue_is_told(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_ENGINE_ARGS": '{"max_num_seqs": 1}', "VLLM_WSGI_MAX_QUEUE": "1"})
    with ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(httpx.post, f"{server.url}/api/chat", json=chat("a !sleep:2 b")) for _ in range(2)]
        # The engine tells once a second.
        until(lambda: readiness(server).text == '{"error":"demo:latest: its queue is full"}', 120, "the queue is full")
        assert [post.result().status_code for post in posts] == [200, 200]
    until(lambda: readiness(server).status_code == 200, 120, "it is ready again")


def test_a_pinned_model_that_is_restarted_is_not_ready(start_server: Callable[..., Server]):
    server = start_server()
    httpx.post(f"{server.url}/api/chat", json=chat("!crash"))
    restarting = readiness(server)
    assert (restarting.status_code, restarting.json()) == (503, {"error": "demo:latest is restarting"})
    until(lambda: readiness(server).status_code == 200, 120, "it is ready again")
