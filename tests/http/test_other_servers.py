"""The blueprint in someone else's application, under the servers that such applications run on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask

from service.config import Settings
from service.errors import SettingsError
from service.web.blueprint import create_blueprint
from tests.support.answers import NDJSON, SSE, chat, generate, parse, text
from tests.support.servers import ROOT, EngineHost, WebProgram, free_port
from tests.support.waiting import until

JSON = "application/json; charset=utf-8"
APPLICATION = """
from flask import Flask
from flask.json.provider import DefaultJSONProvider

from service import create_blueprint


class Loud(DefaultJSONProvider):
    def dumps(self, obj, **kwargs):
        return super().dumps(obj, **kwargs).upper()


app = Flask(__name__)
app.json = Loud(app)
app.register_blueprint(create_blueprint(), url_prefix="/llm")


@app.get("/hello")
def hello():
    return {"hello": "you"}


@app.get("/broken")
def broken():
    raise RuntimeError("broken")


@app.errorhandler(404)
def missing(error):
    return "<h1>Not here</h1>", 404


@app.errorhandler(405)
def wrong(error):
    return "<h1>Not so</h1>", 405


@app.errorhandler(500)
def failed(error):
    return "<h1>Sorry</h1>", 500
"""
COMMANDS = {
    "gevent": ["gunicorn", "-k", "gevent", "-b", "127.0.0.1:{port}", "host:app"],
    "gthread": ["gunicorn", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}", "host:app"],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "--threads=8", "--channel-request-lookahead=1", "host:app"],
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    engine = EngineHost(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.stop()


@pytest.fixture(scope="module", params=COMMANDS)
def host(
    request: pytest.FixtureRequest, engine: EngineHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebProgram]:
    """Someone's application; `url` is where the blueprint stands in it."""
    directory, port = tmp_path_factory.mktemp(request.param), free_port()
    (directory / "host.py").write_text(APPLICATION)
    command = [sys.executable, "-m", *(word.format(port=port) for word in COMMANDS[request.param])]
    env = {"VLLM_WSGI_ENGINE_SOCKET": engine.socket, "PYTHONPATH": str(ROOT), "HOME": str(directory)}
    host = WebProgram(command, directory, port, env, "/llm", directory)
    host.wait_until_ready()
    yield host
    host.stop()


def own(host: WebProgram, path: str, method: str = "GET") -> httpx.Response:
    """The application's own answer."""
    return httpx.request(method, f"http://127.0.0.1:{host.port}{path}", verify=False)


@pytest.mark.parametrize(
    ("method", "path", "status", "page"),
    [
        ("GET", "/hello", 200, '{"HELLO":"YOU"}\n'),
        ("GET", "/nope", 404, "<h1>Not here</h1>"),
        ("GET", "/api/chat", 404, "<h1>Not here</h1>"),
        ("POST", "/hello", 405, "<h1>Not so</h1>"),
        ("GET", "/broken", 500, "<h1>Sorry</h1>"),
    ],
)
def test_the_applications_own_pages_stay_as_they_are(host: WebProgram, method: str, path: str, status: int, page: str):
    answer = own(host, path, method)
    assert (answer.status_code, answer.text) == (status, page)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/version", 200),
        ("GET", "/api/tags", 200),
        ("GET", "/api/nope", 404),
        ("GET", "/api/chat", 405),
        ("OPTIONS", "/api/chat", 405),
        ("POST", "/api/chat", 400),
    ],
)
def test_ours_are_json_below_their_prefix(host: WebProgram, method: str, path: str, status: int):
    answer = httpx.request(method, host.url + path, verify=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON)
    assert answer.json().keys() <= {"version", "models", "error"}


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_streams_flow_in_both_formats(host: WebProgram, accept: str):
    body = chat("!rate:20 a b c d e f <g>")
    with httpx.stream("POST", f"{host.url}/api/chat", json=body, headers={"Accept": accept}) as answer:
        reads = list(answer.iter_raw())
    assert (answer.headers["Content-Type"], len(reads) >= 4) == (accept, True)
    *records, last = parse(b"".join(reads), accept)
    assert (text(records), last["done"]) == ("a b c d e f <g> ", True)


def test_a_foreign_host_is_refused_where_the_listening_address_is_known(
    host: WebProgram, request: pytest.FixtureRequest
):
    answer = httpx.get(f"{host.url}/api/version", headers={"Host": "evil.example"})
    # waitress writes a constant where the others write the address.
    assert answer.status_code == (200 if "waitress" in request.node.name else 403)


def test_an_answer_that_is_not_streamed(host: WebProgram):
    answer = httpx.post(f"{host.url}/api/generate", json=generate("a b", stream=False))
    assert (answer.headers["Content-Type"], answer.json()["response"]) == (JSON, "a b ")


def test_a_chunked_body_is_read(host: WebProgram):
    body = json.dumps(generate("a b", stream=False)).encode()
    answer = httpx.post(f"{host.url}/api/generate", content=iter([body[:9], body[9:]]))
    assert (answer.status_code, answer.json()["response"]) == (200, "a b ")


def test_a_later_failure_is_the_last_record(host: WebProgram):
    content = post(host, chat("a !fail:oh"), NDJSON).content
    assert [record.get("error") for record in parse(content, NDJSON)] == [None, "oh"]


def test_six_streams_flow_side_by_side(host: WebProgram):
    scripts = [" ".join(f"{number}.{word}" for word in range(20)) for number in range(6)]
    accepts = [NDJSON, SSE] * 3
    with ThreadPoolExecutor(6) as pool:
        bodies = [chat(f"!rate:20 {script}") for script in scripts]
        posts = [pool.submit(post, host, body, accept) for body, accept in zip(bodies, accepts, strict=True)]
        streams = [parse(post.result().content, accept) for post, accept in zip(posts, accepts, strict=True)]
    assert [text(records) for records in streams] == [f"{script} " for script in scripts]
    times = [[record["created_at"].removesuffix("Z") for record in records] for records in streams]
    assert max(each[0] for each in times) < min(each[-1] for each in times)


def post(host: WebProgram, body: dict[str, Any], accept: str) -> httpx.Response:
    return httpx.post(f"{host.url}/api/chat", json=body, headers={"Accept": accept}, timeout=120, verify=False)


def test_clients_that_leave_are_noticed(host: WebProgram, record_property: Any):
    connections = []
    for body in [chat(script, stream=stream) for script in ("!sleep:30", "a !sleep:30") for stream in (True, False)]:
        content = json.dumps(body)
        head = f"POST /llm/api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connections.append(host.connect())
        connections[-1].sendall((head + content).encode())
    host.wait_until_running(4)
    for connection in connections:
        connection.close()
    took = host.wait_until_idle(10)
    record_property("idle_seconds", round(took, 2))
    print(f"the engine ran nothing {took:.2f} s later")
    assert post(host, chat("next", stream=False), JSON).json()["message"]["content"] == "next "


def test_an_engine_host_that_is_not_there_is_a_503(tmp_path: Path):
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(Settings(engine_socket=str(tmp_path / "nobody.sock"))))
    answer = app.test_client().post("/api/chat", json=chat("a"))
    assert (answer.status_code, answer.content_type) == (503, JSON)
    assert int(answer.headers["Retry-After"]) > 0
    assert "engine" in answer.get_json()["error"]


def test_two_blueprints_live_in_one_application(tmp_path: Path):
    app = Flask(__name__)
    for name, version in (("one", "1.0.0"), ("two", "2.0.0")):
        settings = Settings(engine_socket=str(tmp_path / f"{name}.sock"), ollama_version=version)
        app.register_blueprint(create_blueprint(settings, name), url_prefix=f"/{name}")
    versions = [app.test_client().get(f"/{name}/api/version").get_json()["version"] for name in ("one", "two")]
    assert versions == ["1.0.0", "2.0.0"]


def test_a_blueprint_without_an_engine_says_what_to_do():
    with pytest.raises(SettingsError, match="VLLM_WSGI_ENGINE_SOCKET is empty: start an engine host"):
        create_blueprint(Settings())


def test_importing_and_registering_start_nothing_and_need_neither_vllm_nor_gevent():
    program = """
import sys, threading
for name in ("vllm", "torch", "gevent", "gunicorn"):
    sys.modules[name] = None
from flask import Flask
import service
Flask("host").register_blueprint(service.create_blueprint(service.Settings(engine_socket="/nobody.sock")))
print(threading.active_count())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == ("1\n", "")


def test_the_engine_host_leaves_nothing_behind(tmp_path: Path):
    engine = EngineHost(tmp_path)
    until(lambda: engine.running("service.engine.worker.process"), 120, "a worker runs")
    engine.stop()
    assert list(tmp_path.glob("*.sock")) == []
