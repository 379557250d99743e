"""Host headers as Ollama allows them: the protection of a server on loopback from DNS rebinding."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from flask import Flask

from app import create_app
from service.config import Settings
from service.web.blueprint import create_blueprint
from tests.support.servers import Server


def test_a_rebound_page_is_refused_though_it_is_of_the_same_origin(client: httpx.Client):
    rebound = {"Host": "evil.example:11434", "Origin": "http://evil.example:11434"}
    for method, path in (("GET", "/"), ("POST", "/api/chat"), ("GET", "/api/nothing"), ("OPTIONS", "/api/chat")):
        refused = client.request(method, path, headers=rebound)
        assert refused.status_code == 403
        assert "evil.example" in refused.json()["error"]


def test_options_without_a_page_is_204_for_a_name_and_405_for_an_address(client: httpx.Client):
    assert client.options("/api/chat", headers={"Host": "localhost"}).status_code == 204
    assert client.options("/api/chat").status_code == 405


def test_a_host_of_the_operators_is_let_in(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_HOSTS": "llm.corp.example"})
    for host, status in (("llm.corp.example", 200), ("evil.example", 403)):
        assert httpx.get(f"{server.url}/api/version", headers={"Host": host}).status_code == status


def test_a_forwarded_host_counts_as_any_other():
    app = create_app(Settings(engine_socket="/nowhere", proxy_hops=1, hosts="llm.corp.example"))
    for host, status in (("llm.corp.example", 200), ("evil.example", 403)):
        answer = app.test_client().get("/api/version", headers={"X-Forwarded-Host": host})
        assert answer.status_code == status


def test_on_a_unix_socket_every_host_passes(tmp_path):
    # gunicorn writes the Host header into SERVER_NAME there.
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(Settings(engine_socket=str(tmp_path / "engine.sock"))))
    for host in ("llm.corp.example", "127.0.0.1", "localhost"):
        answer = app.test_client().get("/api/version", base_url=f"http://{host}")
        assert answer.status_code == 200
