"""Keys: who comes in, what he may do, and that nobody comes in where nothing says so."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app import create_app
from service.access.addresses import check_bind, is_local, presented
from service.access.key_file import SCOPES, KeyFile, read_keys
from service.access.keys import DISCOVERY, ROUTES
from service.access.new_key import lines, new_key
from service.config import Settings
from service.errors import SettingsError, Unauthorized
from service.protocol.request import Caller
from service.telemetry import request_log
from service.web.blueprint import create_blueprint
from tests.support.servers import ROOT, SCRIPTED, Server, clean_environment, free_port, until

EXAMPLE = ROOT / "deploy" / "keys.toml.example"
REMOTE = "203.0.113.7"
NAMES = ("inference", "manage", "observe")
OPEN = {"/", "/api/version", "/livez", "/readyz"}


def table(name: str, *scopes: str, more: str = "") -> str:
    """The lines of a key whose text is its name."""
    return f"{lines(name, name, scopes)}{more}\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A key for each scope."""
    path = tmp_path / "keys.toml"
    path.write_text("\n".join(table(scope, scope) for scope in NAMES))
    return path


def application(tmp_path: Path, prefix: str = "", **settings: Any) -> Flask:
    """The blueprint in an application; its engine is not there, which is a 503 for whoever is let in."""
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
    """What every rule of the application answers, by its path."""
    client = app.test_client()
    return {rule.rule: ask(client, rule, key, address).status_code for rule in app.url_map.iter_rules()}


# --- deny by default -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/llm"])
def test_without_a_key_only_the_listed_routes_answer(tmp_path: Path, keys: Path, prefix: str):
    answers = statuses(application(tmp_path, prefix, keys=str(keys)))
    assert {path for path, status in answers.items() if status != 401} == {prefix + path for path in OPEN}


def test_every_route_stands_in_the_table(tmp_path: Path):
    assert {rule.rule for rule in application(tmp_path).url_map.iter_rules()} <= set(ROUTES)


def test_a_route_that_the_table_lacks_is_closed_to_every_key(tmp_path: Path, keys: Path, monkeypatch: Any):
    monkeypatch.delitem(ROUTES, "/api/tags")
    app = application(tmp_path, keys=str(keys))
    assert [statuses(app, key)["/api/tags"] for key in ("", *NAMES)] == [401, 403, 403, 403]


@pytest.mark.parametrize("key", NAMES)
def test_a_key_opens_its_scope_and_what_any_key_opens(tmp_path: Path, keys: Path, key: str):
    answers = statuses(application(tmp_path, keys=str(keys)), key)
    closed = {path for path, scope in ROUTES.items() if scope not in (key, "any", "open")}
    assert {path for path, status in answers.items() if status == 403} == closed & answers.keys()
    assert 401 not in answers.values()


def test_discovery_can_be_opened_and_nothing_else_with_it(tmp_path: Path, keys: Path):
    answers = statuses(application(tmp_path, keys=str(keys), open_discovery=True))
    opened = {path for path, status in answers.items() if status != 401}
    assert opened == {*OPEN, *DISCOVERY}


def test_without_keys_the_own_machine_comes_in_and_no_other(tmp_path: Path):
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
        # Past the proxy, straight to the port.
        (1, REMOTE, "127.0.0.1", 403),
        # Past the first of two.
        (2, "127.0.0.1", REMOTE, 403),
        (2, "127.0.0.1", f"127.0.0.1, {REMOTE}", 403),
    ],
)
def test_without_keys_a_proxy_brings_only_whom_it_says_is_local(hops: int, peer: str, forwarded: str, status: int):
    client = create_app(Settings(engine_socket="/nowhere", proxy_hops=hops)).test_client()
    headers = {"X-Forwarded-For": forwarded}
    assert client.get("/api/tags", headers=headers, environ_base={"REMOTE_ADDR": peer}).status_code == status


def test_without_keys_anyone_comes_in_where_that_is_said_aloud(tmp_path: Path):
    assert not {401, 403} & set(statuses(application(tmp_path, allow_anyone=True), address=REMOTE).values())


def test_to_unload_a_model_takes_the_scope_manage(tmp_path: Path, keys: Path):
    keys.write_text(keys.read_text() + table("both", "inference", "manage"))
    client = application(tmp_path, keys=str(keys)).test_client()
    for key, status in (("inference", 403), ("both", 503)):
        headers = {"Authorization": f"Bearer {key}"}
        answer = client.post("/api/generate", json={"model": "demo", "keep_alive": 0}, headers=headers)
        assert answer.status_code == status


# --- what is answered ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ({}, []),
        ({"Authorization": "Bearer a"}, ["a"]),
        ({"Authorization": "bearer  a "}, ["a"]),
        ({"Authorization": "BEARER a"}, ["a"]),
        ({"Authorization": "Basic YTpi"}, []),
        ({"Authorization": "Bearer"}, []),
        ({"Authorization": "a"}, []),
        ({"X-Api-Key": "a"}, ["a"]),
        ({"X-Api-Key": " "}, []),
        ({"Authorization": "Bearer a", "X-Api-Key": "b"}, ["a", "b"]),
    ],
)
def test_a_key_is_read_from_either_header(headers: dict[str, str], keys: list[str]):
    assert presented({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}) == keys


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}, {"X-Api-Key": "\xff"}, {"Authorization": "Basic x"}])
def test_who_is_not_known_is_told_how_to_be(tmp_path: Path, keys: Path, headers: dict[str, str]):
    answer = application(tmp_path, keys=str(keys)).test_client().post("/api/chat", json={}, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "API key" in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/v1/chat/completions", {401: "api_error", 403: "api_error"}),
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


def test_who_may_not_is_told_what_his_key_lacks_and_logged_by_its_name(
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


# --- where from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        # A Unix socket, as gunicorn tells it.
        ("", True),
        (None, False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1", False),
        ("0.0.0.0", False),
        ("localhost.evil.example", False),
    ],
)
def test_a_peer_on_loopback_or_a_unix_socket_is_local(address: str | None, local: bool):
    assert is_local(address) is local


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_an_address_that_others_reach_needs_keys_or_a_word(address: str, keys: Path):
    # gunicorn takes an empty host for every address; a peer's empty address is a Unix socket's.
    with pytest.raises(SettingsError, match="VLLM_WSGI_KEYS"):
        check_bind(Settings(), [("127.0.0.1", 1), (address, 1)])
    check_bind(Settings(allow_anyone=True), [(address, 1)])
    check_bind(Settings(keys=str(keys)), [(address, 1)])


def test_loopback_and_unix_sockets_need_neither():
    check_bind(Settings(), [("127.0.0.1", 1), ("::1", 1), ("localhost", 1), "/run/web.sock"])


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"HOST": "0.0.0.0"}, "listening on 0.0.0.0 without keys would let anyone in"),
        ({"VLLM_WSGI_KEYS": "/nowhere/keys.toml"}, "VLLM_WSGI_KEYS=/nowhere/keys.toml can't be read"),
    ],
)
def test_gunicorn_does_not_start_and_says_why(env: dict[str, str], sentence: str):
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    env = clean_environment({"PORT": str(free_port()), "VLLM_WSGI_ENGINE": "scripted", **env})
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_gunicorn_refuses_a_socket_that_is_handed_over_where_others_reach_it():
    with socket.create_server(("0.0.0.0", 0)) as listener:
        bound = f"--bind=fd://{listener.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", bound, "wsgi:app"]
        run = subprocess.run(
            command, cwd=ROOT, env=clean_environment(SCRIPTED), pass_fds=[listener.fileno()],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert run.returncode == 1
    assert "listening on 0.0.0.0 without keys would let anyone in" in run.stderr
    assert "Traceback" not in run.stderr


# --- keys.toml -------------------------------------------------------------------------------------------


def test_the_example_is_read_and_shows_every_field():
    alice, nightly = read_keys(EXAMPLE, Caller())
    assert alice.caller == Caller("alice", 0, 4, 60_000, 16_000, 2_000)
    assert alice.digest == hashlib.sha256(b"example").digest()
    assert (alice.scopes, nightly.scopes, nightly.caller.priority) == ({"inference"}, set(SCOPES), 10)
    assert all(f"\n{field} = " in EXAMPLE.read_text() for field in Caller.__struct_fields__ if field != "name")


def test_what_a_key_leaves_open_the_settings_decide(tmp_path: Path, keys: Path):
    keys.write_text(table("a", "inference") + table("b", "inference", more="max_output_tokens = 0"))
    first, second = read_keys(keys, Caller(max_prompt_tokens=7, max_output_tokens=8))
    assert (first.caller.max_prompt_tokens, first.caller.max_output_tokens) == (7, 8)
    assert (second.caller.max_prompt_tokens, second.caller.max_output_tokens) == (7, 0)


HASH = 'hash = "sha256:' + "0" * 64 + '"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[keys.a]\nscopes = ['observe']", 'line 1: keys."a": has no hash; `vllm-wsgi key NAME`'),
        (f"[keys.a]\n{HASH}", 'line 1: keys."a": needs scopes, of inference, manage, observe'),
        (f"[keys.a]\n{HASH}\nscopes = []", 'line 3: keys."a".scopes: needs scopes'),
        (f"[keys.a]\n{HASH}\nscopes = ['admin']", "line 3: keys.\"a\".scopes: 'admin' is no scope; known are"),
        (f"[keys.a]\n{HASH}\nscopes = [1]", 'line 3: keys."a".scopes: 1 is no scope'),
        (f"[keys.a]\n{HASH}\nscopes = 'observe'", 'line 3: keys."a".scopes: must be a list'),
        ('[keys.a]\nhash = "sha256:ABC"\nscopes = ["observe"]', 'line 2: keys."a".hash: must be "sha256:" and 64'),
        ("[keys.a]\nkey = 'secret'", 'line 2: keys."a".key: is unknown; known are hash, scopes, priority'),
        ("[keys.a]\npriority = true", 'line 2: keys."a".priority: must be a whole number'),
        (f"[keys.a]\npriority = {-(2**64)}", 'line 2: keys."a".priority: does not fit into 64 bits'),
        ("[keys.a]\nmax_concurrent = -1", 'line 2: keys."a".max_concurrent: must not be negative'),
        (f"[keys.'']\n{HASH}", 'line 1: keys."": must have a name'),
        ("[key.a]", 'line 1: key: is unknown; a key stands in a table of its own, [keys."name"]'),
        ("keys = 1", "line 1: keys: must hold tables"),
        ("[keys]\na = 1", 'line 2: keys."a": must be a table'),
        ("[keys.a", "line 1: "),
        (table("a", "observe") + table("b", "observe").replace(hashlib.sha256(b"b").hexdigest(),
         hashlib.sha256(b"a").hexdigest()), 'line 6: keys."b".hash: is that of "a" too'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(keys: Path, text: str, message: str):
    keys.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_keys(keys, Caller())
    assert caught.value.message.startswith(f"{keys}, {message}")


def test_a_file_is_read_again_when_it_has_changed(keys: Path):
    file = KeyFile(Settings(keys=str(keys)))
    assert file.find(["wrong", "observe"]).caller.name == "observe"
    fresh = keys.with_suffix(".new")
    fresh.write_text(table("new", "observe"))
    os.replace(fresh, keys)
    until(lambda: knows(file, "new"), 5, "the new key is known")
    assert not knows(file, "observe")
    keys.write_text("")
    until(lambda: not knows(file, "new"), 5, "a file without keys lets nobody in")


def test_a_change_shows_though_size_and_time_are_as_before(keys: Path):
    file, before = KeyFile(Settings(keys=str(keys))), keys.stat()
    keys.write_text(keys.read_text().replace(*(hashlib.sha256(key).hexdigest() for key in (b"observe", b"changed"))))
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(lambda: knows(file, "changed"), 5, "the new key is known")
    assert not knows(file, "observe")


def test_a_link_that_is_swapped_shows_as_kubernetes_secrets_do(tmp_path: Path):
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys.toml").write_text(table(version, "observe"))
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "keys.toml").symlink_to("..data/keys.toml")
    file = KeyFile(Settings(keys=str(tmp_path / "keys.toml")))
    (tmp_path / "..tmp").symlink_to("new")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    until(lambda: knows(file, "new"), 5, "the new key is known")
    assert not knows(file, "old")


@pytest.mark.parametrize("damage", ["[keys.a]\nhash = 1", None])
def test_a_broken_file_leaves_the_keys_as_they_were(keys: Path, damage: str | None, caplog: pytest.LogCaptureFixture):
    file = KeyFile(Settings(keys=str(keys)))
    keys.unlink()
    if damage:
        keys.write_text(damage)
    with caplog.at_level(logging.ERROR):
        until(lambda: knows(file, "observe") and caplog.messages, 5, "the mistake is told")
    (message,) = caplog.messages
    assert message.startswith("the keys stay as they were: ")
    assert ("line 2" if damage else "can't be read") in message


def knows(file: KeyFile, key: str) -> bool:
    try:
        return bool(file.find([key]))
    except Unauthorized:
        return False


def test_a_made_key_opens_with_the_lines_that_come_with_it(keys: Path):
    command = [sys.executable, "-m", "service", "key", 'a "quoted" name', "--scope", "observe", "--scope", "manage"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    keys.write_text(run.stdout)
    key = run.stderr.split()[-1]
    found = KeyFile(Settings(keys=str(keys))).find([key])
    assert (found.caller.name, found.scopes) == ('a "quoted" name', {"observe", "manage"})


def test_no_two_keys_are_alike_and_each_has_256_bits():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key.removeprefix("vllm-wsgi-")) for key in keys} == {43}


def test_a_server_asks_for_its_keys(start_server: Callable[..., Server], keys: Path):
    keys.write_text(table("all", *SCOPES))
    server = start_server({"VLLM_WSGI_KEYS": str(keys)}, key="all")
    assert server.status()["state"] == "ready"
    server.headers = {}
    assert server.status() == {}
