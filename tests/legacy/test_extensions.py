"""The blueprint beside what real applications have: streams stay streams, and the application's pages are untouched."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.legacy.environments import Environment
from tests.support.answers import NDJSON, SSE, chat, parse, text
from tests.support.servers import ROOT, EngineHost, WebProgram, free_port
from tests.support.waiting import until

SHOP = ROOT / "tests" / "apps" / "legacy" / "shop.py"
EXTENSIONS = Environment(
    "3.10",
    (
        "Flask==2.3.3", "Werkzeug==2.3.8", "gunicorn==23.0.0", "gevent==25.9.1", "gevent-websocket==0.10.1",
        "Flask-Caching==2.4.1", "Flask-Compress==1.25", "flask-cors==6.0.5", "Flask-Limiter==4.1.1",
        "Flask-Login==0.6.3", "flask-restx==1.3.2", "Flask-RESTful==0.3.10", "Flask-SocketIO==5.7.0",
        "Flask-SQLAlchemy==3.1.1", "flask-talisman==1.1.0", "Flask-WTF==1.3.0", "sentry-sdk==2.75.0",
        "opentelemetry-sdk==1.45.1", "opentelemetry-instrumentation-flask==0.66b1", "setuptools<80",
    ),
)  # fmt: skip


class Sink(BaseHTTPRequestHandler):
    """Takes what Sentry's SDK sends."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def sink() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


class Shop(WebProgram):
    def __init__(self, python: Path, directory: Path, engine: EngineHost, sink: HTTPServer) -> None:
        port = free_port()
        shutil.copy(SHOP, directory)
        self.env = {
            "ENGINE": engine.socket, "HEARTBEAT": "3600", "PORT": str(port), "PYTHONPATH": "", "HOME": str(directory),
            "SENTRY": f"http://key@127.0.0.1:{sink.server_port}/1",
        }  # fmt: skip
        bind = ["--bind", f"127.0.0.1:{port}"]
        command = [str(python), "-m", "gunicorn", "-k", "gevent", *bind, "shop:create_app()"]
        super().__init__(command, directory, port, self.env, "/llm", directory)
        self.headers = {"Host": f"shop.test:{port}"}

    def client(self, host: str = "shop.test") -> httpx.Client:
        """A browser of its own: with cookies, and with the application's host name."""
        base = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=base, headers={"Host": f"{host}:{self.port}"}, timeout=60)


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    return EXTENSIONS.make(wheel)


@pytest.fixture(scope="module")
def shop(
    python: Path, engine: EngineHost, sink: HTTPServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    shop = Shop(python, tmp_path_factory.mktemp("shop"), engine, sink)
    shop.wait_until_ready()
    yield shop
    shop.stop()


@pytest.fixture
def member(shop: Shop) -> httpx.Client:
    client = shop.client()
    token = client.get("/token").text
    assert client.post("/login", data={"name": "ann", "csrf_token": token}).text == "welcome"
    return client


def stream(client: httpx.Client, path: str, accept: str, **body: object) -> tuple[httpx.Response, list[bytes]]:
    with client.stream("POST", path, headers={"Accept": accept}, **body) as answer:
        return answer, list(answer.iter_raw())


@pytest.mark.parametrize("accept", [NDJSON, SSE])
@pytest.mark.parametrize(("host", "path"), [("shop.test", "/llm"), ("llm.shop.test", ""), ("shop.test", "/members")])
def test_streams_stay_streams(shop: Shop, member: httpx.Client, accept: str, host: str, path: str):
    client = member if path == "/members" else shop.client(host)
    answer, reads = stream(client, f"{path}/api/chat", accept, json=chat("!rate:20 a b c d e <f>"))
    *records, last = parse(b"".join(reads), accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, accept)
    assert (text(records), last["done"], len(reads) >= 4) == ("a b c d e <f> ", True, True)
    assert "Content-Encoding" not in answer.headers


def test_curls_type_of_body_does_not_let_a_hook_take_the_body(shop: Shop):
    """curl says that it is a form, and a hook of the application looks into the form."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = shop.client().post("/llm/api/chat", content=json.dumps(chat("a b", stream=False)), headers=form)
    assert answer.json()["message"]["content"] == "a b "


def test_a_client_that_disconnects_is_noticed(shop: Shop):
    connection = shop.connect()
    content = json.dumps(chat("a !sleep:600"))
    head = f"POST /llm/api/chat HTTP/1.1\r\nHost: shop.test:{shop.port}\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall((head + content).encode())
    shop.wait_until_running(1)
    connection.close()
    shop.wait_until_idle()
    answer = shop.client().post("/llm/api/chat", json=chat("next", stream=False))
    assert answer.json()["message"]["content"] == "next "


def test_the_applications_login_guards_ours(shop: Shop, member: httpx.Client):
    stranger = shop.client().post("/members/api/chat", json=chat("a", stream=False))
    assert (stranger.status_code, "error" in stranger.json()) == (401, True)
    assert member.get("/members/api/version").json() == {"version": "9.9.9"}
    assert member.post("/members/api/chat", json=chat("a", stream=False)).json()["message"]["content"] == "a "


def test_the_applications_own_view_streams(shop: Shop, member: httpx.Client):
    token = member.get("/token").text
    _, reads = stream(member, "/ask", SSE, data={"question": "!rate:20 a b c d", "csrf_token": token})
    assert text(parse(b"".join(reads), SSE)) == "a b c d "
    assert len(reads) >= 3
    assert member.post("/ask", data={"question": "a"}).status_code == 400


def test_ours_answer_in_json_where_the_application_has_pages_for_errors(shop: Shop):
    client = shop.client()
    answers = [
        client.get("/llm/api/nothing"),
        client.post("/llm/api/nothing", json={}),
        client.post("/llm/api/chat", content=b"{"),
        client.post("/llm/api/chat", json=chat("a" * 20_000)),
        client.post("/llm/api/chat", json=chat("!refuse:no")),
        client.get("/llm/api/tags", headers={"Origin": "https://evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 400, 413, 400, 403]
    assert all("error" in answer.json() for answer in answers)


def test_the_applications_pages_are_untouched(shop: Shop, member: httpx.Client):
    client = shop.client()
    home = client.get("/")
    assert home.headers["Content-Encoding"] in ("gzip", "br", "zstd", "deflate") or "shop shop" in home.text
    assert "default-src" in home.headers["Content-Security-Policy"]
    assert int(home.headers["X-Bytes"]) > 0
    assert (client.get("/nothing").status_code, client.get("/nothing").text) == (404, "<h1>404</h1>")
    assert (client.get("/broken").status_code, client.get("/broken").text) == (500, "<h1>500</h1>")
    assert client.get("/me").status_code == 401
    assert member.get("/me").text == '{\n   "name":"ann"\n}\n'
    assert client.get("/cached").text == client.get("/cached").text
    assert int(client.get("/visits").text) > 0
    assert client.get("/rest/hello").json() == {"rest": "hello"}
    assert client.get("/restful/hello").json() == {"restful": "hello"}
    assert client.get("/socket.io/?EIO=4&transport=polling").text.startswith("0{")
    assert client.post("/login", data={"name": "eve"}).status_code == 400


def test_pages_of_other_origins_get_one_answer_about_them(shop: Shop):
    answer = shop.client().get("/llm/api/tags", headers={"Origin": "http://localhost:3000"})
    assert answer.headers.get_list("Access-Control-Allow-Origin") == ["http://localhost:3000"]


def test_a_limit_of_flask_limiter_is_a_429_in_the_shape_of_the_route(shop: Shop):
    client = shop.client()
    for accept in (NDJSON, SSE):
        answer, reads = stream(client, "/limited/api/chat", accept, json=chat("!rate:20 a b c d"))
        assert (answer.status_code, text(parse(b"".join(reads), accept)), len(reads) >= 3) == (200, "a b c d ", True)
    assert over_the_limit(client, "/api/chat") == {"error": "429 too many requests"}
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert [client.post(f"/limited{path}", json=LIMITED).status_code for _ in range(2)] == [200, 200]
        assert over_the_limit(client, path)["error"]["type"] == "rate_limit_error"


LIMITED = {**chat("a"), "max_tokens": 9}


def over_the_limit(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.post(f"/limited{path}", json=LIMITED)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    return dict(answer.json())


def spans(shop: Shop) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shop.directory / "spans.jsonl").read_text().splitlines()]


def test_opentelemetrys_instrumentation_makes_one_span_for_a_request(shop: Shop):
    """For a stream that ends, for one that its client leaves, and for one that is refused."""
    client, before = shop.client(), len(spans(shop))
    stream(client, "/llm/api/chat", SSE, json=chat("a b"))
    with client.stream("POST", "/llm/api/chat", json=chat("a !sleep:600")) as answer:
        next(answer.iter_raw())
    shop.wait_until_idle()
    stream(client, "/llm/api/chat", SSE, json=chat("!refuse:no"))
    made = [span["attributes"] for span in spans(shop)[before:]]
    chats = [each["http.status_code"] for each in made if each.get("http.route") == "/llm/api/chat"]
    assert chats == [200, 200, 400]


def test_sentry_gets_the_applications_errors(shop: Shop):
    assert shop.client().get("/broken").status_code == 500
    until(lambda: Sink.bodies, 30, "the error is reported")


def test_no_trace_but_that_of_the_broken_page(shop: Shop):
    assert shop.output.count("Traceback") == shop.output.count("RuntimeError: broken")
    assert "stays a stream" in shop.output


def checked(shop: Shop, python: Path, directory: Path, change: str = "") -> subprocess.CompletedProcess[str]:
    source = SHOP.read_text()
    (directory / "shop.py").write_text(source.replace(*change.split(" -> ")) if change else source)
    command = [python, "-m", "flask", "--app", "shop", "vllm-wsgi", "check"]
    env = {**shop.env, "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ("csrf.exempt(blueprint) -> pass", "call `csrf.exempt(blueprint)`"),
        ('CACHE_TYPE= -> COMPRESS_MIMETYPES=["text/event-stream"], CACHE_TYPE=', "out of COMPRESS_MIMETYPES"),
    ],
)
def test_check_finds_what_holds_a_stream_back(shop: Shop, python: Path, tmp_path: Path, change: str, cure: str):
    ran = checked(shop, python, tmp_path, change)
    assert (ran.returncode, cure in ran.stdout) == (1, True), ran.stdout + ran.stderr


def test_check_is_content_with_the_application(shop: Shop, python: Path, tmp_path: Path):
    ran = checked(shop, python, tmp_path)
    assert (ran.returncode, "FAILED" in ran.stdout) == (0, False), ran.stdout + ran.stderr
    assert "Flask-WTF" in ran.stdout
