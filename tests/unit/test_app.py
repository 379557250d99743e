"""`app.py` behind proxies: what X-Forwarded-* may say, and where the routes stand. No server, no engine."""

from __future__ import annotations

from functools import cache

import pytest
from flask import Flask
from werkzeug.test import Client, TestResponse

from app import create_app
from service.config import Settings
from service.errors import SettingsError
from service.web.blueprint import create_blueprint

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "llm.example",
    "X-Forwarded-Prefix": "/ai",
}
# What the client claims comes first; each proxy adds what it saw.
SPOOFED = {name: f"spoofed, {value}" for name, value in FORWARDED.items()}


@cache
def client(prefix: str = "", hops: int = 0) -> Client:
    settings = Settings(
        engine_socket="/nowhere/e.sock", prefix=prefix, proxy_hops=hops, allow_anyone=True, hosts="llm.example"
    )
    return Client(create_app(settings))


def get(path: str, prefix: str = "", hops: int = 0, **headers: str) -> TestResponse:
    return client(prefix, hops).get(path, headers=headers)


def test_routes_stand_under_the_prefix_and_only_there():
    assert get("/llm/api/version", "/llm").status_code == 200
    assert get("/llm/api/nothing", "/llm").json == {"error": "404 page not found: /api/nothing"}
    assert get("/api/version", "/llm").json == {"error": "404 not found"}


@pytest.mark.parametrize("prefix", ["llm", "/llm/", "/", "//llm", "/<llm>", "/a b", "/llm?"])
def test_a_prefix_that_is_none_is_refused(prefix: str):
    with pytest.raises(SettingsError, match="VLLM_WSGI_PREFIX"):
        Settings.from_env({"VLLM_WSGI_PREFIX": prefix})


def test_without_hops_the_headers_are_ignored():
    answer = get("/llm", "/llm", **FORWARDED)
    assert answer.location == "http://localhost/llm/"


@pytest.mark.parametrize("headers", [FORWARDED, SPOOFED], ids=["honest", "spoofed"])
def test_a_redirect_leads_to_where_the_client_came_from(headers: dict[str, str]):
    assert get("/llm", "/llm", 1, **headers).location == "https://llm.example/ai/llm/"
    assert get("/api/tags/", "", 1, **headers).location == "/ai/api/tags"


@pytest.mark.parametrize(
    ("prefix", "location"),
    [
        ("//evil.example", "/evil.example/api/tags"),
        ("///evil.example/", "/evil.example/api/tags"),
        ("evil.example", "/evil.example/api/tags"),
        ("/\\evil.example", "/%5Cevil.example/api/tags"),
        ("/\t/evil.example", "/%09/evil.example/api/tags"),
        ("//", "/api/tags"),
        ("/", "/api/tags"),
        ("/ai", "/ai/api/tags"),
    ],
)
def test_a_forwarded_prefix_leads_to_no_other_host(prefix: str, location: str):
    headers = FORWARDED | {"X-Forwarded-Prefix": prefix}
    assert get("/api/tags/", "", 1, **headers).location == location


def test_an_application_of_ones_own_redirects_to_no_other_host_either():
    application = Flask(__name__, static_folder=None)
    application.register_blueprint(create_blueprint(Settings(engine_socket="/nowhere/e.sock", allow_anyone=True)))
    answer = Client(application).get("/api/tags/", environ_overrides={"SCRIPT_NAME": "//evil.example"})
    assert answer.location == "/evil.example/api/tags"


def test_each_hop_is_counted_exactly():
    two = {name: f"spoofed, {value}, inner" for name, value in FORWARDED.items()}
    assert get("/llm", "/llm", 2, **two).location == "https://llm.example/ai/llm/"


def test_a_proxy_that_was_promised_and_adds_nothing_changes_nothing():
    assert get("/llm", "/llm", 2, **FORWARDED).location == "http://localhost/llm/"


@pytest.mark.parametrize(
    ("origin", "hops", "status"),
    [
        ("https://llm.example", 1, 200),
        ("https://llm.example", 0, 403),
        ("https://localhost.example", 1, 403),
        ("https://spoofed", 1, 403),
    ],
)
def test_the_servers_own_page_is_known_behind_a_proxy(origin: str, hops: int, status: int):
    assert get("/api/version", "", hops, **SPOOFED, Origin=origin).status_code == status


def test_a_default_port_in_the_forwarded_host_is_no_other_origin():
    headers = FORWARDED | {"X-Forwarded-Host": "llm.example:443", "Origin": "https://llm.example"}
    answer = get("/api/version", "", 1, **headers)
    assert (answer.status_code, "Access-Control-Allow-Origin" in answer.headers) == (200, False)
