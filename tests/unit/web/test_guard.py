"""Who may use which route: closed by default, opened by a key's scopes. The application has no engine behind it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app import create_app
from service import drain
from service.access.scopes import SCOPE_NAMES, Scope
from service.config import Settings
from service.drain import Drain
from service.telemetry import request_log
from service.web.blueprint import all_routes, create_blueprint
from service.web.route import Route
from tests.support.keys import table

REMOTE = "203.0.113.7"
# Written a second time on purpose: a change of a route's scope must be meant.
DISCOVERY = {"/api/tags", "/api/ps", "/api/show", "/v1/models", "/v1/models/<path:name>"}
MANAGE = {"/api/pull", "/api/create", "/api/copy", "/api/delete", "/api/blobs/<digest>"}
OBSERVE = {"/api/status", "/api/events", "/metrics"}
OPEN = {"/", "/api/version", "/livez", "/readyz", "/health", "/ping", "/version", "/ui", "/ui/", "/ui/<file>"}


def application(tmp_path: Path, prefix: str = "", **settings: Any) -> Flask:
    """The blueprint in an application without an engine, so that a request that passes the guard gets a 503."""
    app = Flask(__name__, static_folder=None)
    socket = str(tmp_path / "engine.sock")
    app.register_blueprint(create_blueprint(Settings(engine_socket=socket, **settings)), url_prefix=prefix or None)
    return app


def ask(client: FlaskClient, rule: Rule, key: str = "", address: str = "127.0.0.1") -> TestResponse:
    method = sorted(rule.methods or [])[0]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    path = rule.rule.replace("<path:path>", "nothing")
    return client.open(path, method=method, headers=headers, json={}, environ_base={"REMOTE_ADDR": address})


def statuses(app: Flask, key: str = "", address: str = "127.0.0.1") -> dict[str, int]:
    """The status of every rule of the application, by its path; a route's stands for its path's fallback too."""
    client = app.test_client()
    fallbacks_first = sorted(app.url_map.iter_rules(), key=lambda rule: "./" not in rule.endpoint)
    return {rule.rule: ask(client, rule, key, address).status_code for rule in fallbacks_first}


@pytest.mark.parametrize("prefix", ["", "/llm"])
def test_without_a_key_only_the_listed_routes_answer(tmp_path: Path, keys: Path, prefix: str):
    answers = statuses(application(tmp_path, prefix, keys=str(keys)))
    assert {path for path, status in answers.items() if status != 401} == {prefix + path for path in OPEN}


def test_a_route_without_a_scope_can_not_be_declared():
    with pytest.raises(TypeError, match="scope"):
        Route("/api/x", ("GET",), Response, summary="x")  # type: ignore[call-arg]


def test_every_route_has_the_scope_that_it_is_meant_to_have():
    routes = [route for dialect in all_routes().values() for route in dialect]
    expected = {Scope.OPEN: OPEN, Scope.ANY: DISCOVERY, Scope.MANAGE: MANAGE, Scope.OBSERVE: OBSERVE}
    for scope, paths in expected.items():
        assert {route.path for route in routes if route.scope is scope} == paths
    assert all(route.summary for route in routes)


def test_every_rule_of_the_application_is_a_route_of_ours(tmp_path: Path):
    declared = {route.path for dialect in all_routes().values() for route in dialect}
    fallbacks = {"/api", "/v1"} | {f"{base}/<path:path>" for base in ("/api", "/api/events", "/v1", "/v1/messages")}
    rules = {rule.rule for rule in application(tmp_path).url_map.iter_rules()}
    assert declared <= rules <= declared | fallbacks | {"/api/events/", "/v1/messages/"}


@pytest.mark.parametrize("name", ["vllm_wsgi", "renamed", "a.b"])
def test_a_rule_that_is_not_a_route_is_closed_to_every_key(tmp_path: Path, keys: Path, name: str):
    settings = Settings(engine_socket=str(tmp_path / "engine.sock"), keys=str(keys))
    blueprint = create_blueprint(settings)
    blueprint.add_url_rule("/added", "added", lambda: "open")
    app = Flask(__name__, static_folder=None)
    if "." in name:
        outer = Blueprint("a", __name__)
        outer.register_blueprint(blueprint, name="b")
        app.register_blueprint(outer)
    else:
        app.register_blueprint(blueprint, name=name)
    assert [statuses(app, key)["/added"] for key in ("", *SCOPE_NAMES)] == [401, 403, 403, 403]
    assert [statuses(app, key)["/api/tags"] for key in ("", *SCOPE_NAMES)] == [401, 503, 503, 503]


@pytest.mark.parametrize("key", SCOPE_NAMES)
def test_a_key_opens_its_scope_and_what_any_key_opens(tmp_path: Path, keys: Path, key: str):
    answers = statuses(application(tmp_path, keys=str(keys)), key)
    routes = [route for dialect in all_routes().values() for route in dialect]
    closed = {route.path for route in routes if route.scope not in (key, Scope.ANY, Scope.OPEN)}
    assert {path for path, status in answers.items() if status == 403} == closed
    assert 401 not in answers.values()


@pytest.mark.parametrize(
    ("path", "status"), [("/api/chat", 503), ("/api/delete", 503), ("/api/version", 200), ("/api/nothing", 404)]
)
def test_new_work_is_refused_while_the_process_ends_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: int
):
    ending = Drain()
    ending.begin(120)
    monkeypatch.setattr(drain, "drain", ending)
    app = application(tmp_path)
    method = {"/api/chat": "POST", "/api/delete": "DELETE"}.get(path, "GET")
    answer = app.test_client().open(path, method=method, json={})
    assert answer.status_code == status
    assert status != 503 or "going down" in answer.get_json()["error"]


def test_discovery_can_be_opened_and_nothing_else_with_it(tmp_path: Path, keys: Path):
    answers = statuses(application(tmp_path, keys=str(keys), open_discovery=True))
    opened = {path for path, status in answers.items() if status != 401}
    assert opened == {*OPEN, *DISCOVERY}


def test_without_keys_the_own_machine_is_served_and_no_other(tmp_path: Path):
    app = application(tmp_path)
    assert not {401, 403} & set(statuses(app).values())
    closed = {path for path, status in statuses(app, address=REMOTE).items() if status == 403}
    assert closed == statuses(app).keys() - OPEN
    answer = app.test_client().get("/api/tags", environ_base={"REMOTE_ADDR": REMOTE})
    assert "VLLM_WSGI_KEYS" in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("hops", "peer", "forwarded", "status"),
    [
        (0, "127.0.0.1", "127.0.0.1", 503),
        (0, "127.0.0.1", REMOTE, 403),
        (0, "", REMOTE, 403),
        (1, "127.0.0.1", "127.0.0.1", 503),
        (1, "127.0.0.1", "unknown", 403),
        (1, "127.0.0.1", f"127.0.0.1, {REMOTE}", 403),
        # A client that does not come through the proxy.
        (1, REMOTE, "127.0.0.1", 403),
        # A client that does not come through the first of two proxies.
        (2, "127.0.0.1", REMOTE, 403),
        (2, "127.0.0.1", f"127.0.0.1, {REMOTE}", 403),
    ],
)
def test_without_keys_a_proxy_passes_on_only_local_clients(hops: int, peer: str, forwarded: str, status: int):
    client = create_app(Settings(engine_socket="/nowhere", proxy_hops=hops)).test_client()
    headers = {"X-Forwarded-For": forwarded}
    assert client.get("/api/tags", headers=headers, environ_base={"REMOTE_ADDR": peer}).status_code == status


def test_without_keys_anyone_is_served_when_the_setting_says_so(tmp_path: Path):
    assert not {401, 403} & set(statuses(application(tmp_path, allow_anyone=True), address=REMOTE).values())


def test_to_unload_a_model_takes_the_scope_manage(tmp_path: Path, keys: Path):
    keys.write_text(keys.read_text() + table("both", "inference", "manage"))
    client = application(tmp_path, keys=str(keys)).test_client()
    for key, status in (("inference", 403), ("both", 503)):
        headers = {"Authorization": f"Bearer {key}"}
        answer = client.post("/api/generate", json={"model": "demo", "keep_alive": 0}, headers=headers)
        assert answer.status_code == status


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}, {"X-Api-Key": "\xff"}, {"Authorization": "Basic x"}])
def test_an_unknown_key_is_a_401_that_says_what_to_send(tmp_path: Path, keys: Path, headers: dict[str, str]):
    answer = application(tmp_path, keys=str(keys)).test_client().post("/api/chat", json={}, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "API key" in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/v1/chat/completions", {401: "invalid_request_error", 403: "invalid_request_error"}),
        ("/v1/messages", {401: "authentication_error", 403: "permission_error"}),
    ],
)
def test_each_dialect_refuses_in_its_own_shape(tmp_path: Path, keys: Path, path: str, kinds: dict[int, str]):
    client = application(tmp_path, keys=str(keys)).test_client()
    answers = [client.post(path, json={}, headers=headers) for headers in ({}, {"X-Api-Key": "observe"})]
    assert {answer.status_code: answer.get_json()["error"]["type"] for answer in answers} == kinds


def test_one_known_key_of_two_is_enough(tmp_path: Path, keys: Path):
    headers = {"Authorization": "Bearer placeholder", "X-Api-Key": "observe"}
    assert application(tmp_path, keys=str(keys)).test_client().get("/api/status", headers=headers).status_code == 503


def test_a_refused_key_is_told_what_it_lacks_and_logged_by_its_name(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, request_log.LOGGER)
    client = application(tmp_path, keys=str(keys)).test_client()
    answer = client.post("/api/chat", json={}, headers={"X-Api-Key": "observe"})
    assert (answer.status_code, answer.get_json()) == (403, {"error": 'key "observe" lacks the scope "inference"'})
    answer.close()
    assert json.loads(caplog.messages[0])["key"] == "observe"


def test_a_page_reads_why_it_was_refused_and_its_preflight_needs_no_key(tmp_path: Path, keys: Path):
    client = application(tmp_path, keys=str(keys)).test_client()
    page = {"Origin": "http://localhost:3000"}
    preflight = client.options("/api/chat", headers=page | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    for headers, status in ((page, 401), (page | {"X-Api-Key": "observe"}, 403)):
        answer = client.post("/api/chat", json={}, headers=headers)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, page["Origin"])
