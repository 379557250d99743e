"""The application's own code asks an engine: without a request, in views, in a shell, in a child of a fork."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask

from service import Delta, Inference, Settings, create_blueprint, inference
from service.errors import BadRequest, EngineFailure, ModelNotFound
from tests.support.answers import NDJSON, SSE, parse, terminal, text
from tests.support.servers import ROOT, EngineHost, WebProgram, free_port
from tests.support.waiting import until

APPLICATION = """
from flask import Flask, request
from service import ServiceError, create_blueprint, inference, stream_response

app = Flask(__name__)
app.register_blueprint(create_blueprint(), url_prefix="/llm")


def answer():
    return inference().chat("demo", [{"role": "user", "content": request.args["ask"]}], caller="ann")


@app.get("/stream")
def stream():
    return stream_response(answer())


@app.get("/own")
def own():
    return stream_response({"piece": delta.text} if delta else None for delta in answer().with_heartbeats())


@app.get("/whole")
def whole():
    return answer().answer().text


@app.get("/both")
def both():
    first, second = answer(), answer()
    next(first), next(second)
    return first.answer().text + second.answer().text


@app.errorhandler(ServiceError)
def failed(error):
    return error.message, error.status, error.headers
"""


def user(script: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": script}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    engine = EngineHost(tmp_path_factory.mktemp("engine"))
    until(Path(engine.socket).exists, 30, "the engine host listens", lambda: engine.output if engine.ended() else "")
    yield engine
    engine.stop()


@pytest.fixture
def asked(engine: EngineHost) -> Inference:
    """Without an application and without a request."""
    return Inference(Settings(engine_socket=engine.socket))


@pytest.fixture(scope="module")
def host(engine: EngineHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProgram]:
    """An application with views of its own that ask the engine. Only a heartbeat of an hour comes."""
    directory, port = tmp_path_factory.mktemp("host"), free_port()
    (directory / "host.py").write_text(APPLICATION)
    env = {"VLLM_WSGI_ENGINE_SOCKET": engine.socket, "PYTHONPATH": str(ROOT), "VLLM_WSGI_HEARTBEAT": "3600"}
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "8", "-b", f"127.0.0.1:{port}"]
    host = WebProgram([*command, "host:app"], directory, port, env, "/llm", directory)
    host.wait_until_ready()
    yield host
    host.stop()


def own(host: WebProgram, path: str, ask: str, **headers: str) -> httpx.Response:
    url = f"http://127.0.0.1:{host.port}{path}"
    return httpx.get(url, params={"ask": ask}, headers=headers, timeout=30)


def test_an_iterator_of_deltas(asked: Inference):
    generation = asked.chat("demo", user("!think:hm one two"))
    deltas = list(generation)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert "".join(delta.text for delta in deltas) == "one two "
    assert "".join(delta.thinking for delta in deltas) == "hm "
    assert generation.finished is not None
    assert (generation.finished.reason, generation.finished.output_tokens) == ("stop", 3)


def test_the_whole_answer(asked: Inference):
    answer = asked.generate("demo", "!think:hm one two", options={"num_predict": 2}).answer()
    assert (answer.text, answer.thinking, answer.finished.reason) == ("one ", "hm ", "length")


def test_vectors_are_those_of_the_route(asked: Inference, host: WebProgram):
    vectors = asked.embed("demo", ["a", "b"], dimensions=4)
    route = httpx.post(f"{host.url}/api/embed", json={"model": "demo", "input": ["a", "b"], "dimensions": 4}).json()
    assert [len(vector) for vector in vectors] == [4, 4]
    assert vectors == [pytest.approx(vector) for vector in route["embeddings"]]
    assert asked.embed("demo", "a", dimensions=4) == vectors[:1]


def test_errors_are_those_of_the_tree(asked: Inference):
    with pytest.raises(ModelNotFound):
        asked.chat("nothing", user("a")).answer()
    with pytest.raises(ModelNotFound):
        asked.embed("nothing", "a")
    with pytest.raises(BadRequest, match="no"):
        asked.chat("demo", user("!refuse:no")).answer()
    generation = asked.chat("demo", user("a !fail:oh"))
    assert next(generation).text == "a "
    with pytest.raises(EngineFailure, match="oh"):
        next(generation)


def test_the_limits_of_the_settings_hold(engine: EngineHost):
    limited = Inference(Settings(engine_socket=engine.socket, max_prompt_tokens=5, max_output_tokens=3))
    with pytest.raises(BadRequest, match="may have 5"):
        limited.generate("demo", "a b c d e f g h").answer()
    answer = limited.generate("demo", "a b c d").answer()
    assert (answer.text, answer.finished.reason) == ("a b c ", "length")


def test_the_limits_of_the_settings_hold_on_the_routes_of_a_server_without_keys(engine: EngineHost):
    app = Flask(__name__)
    app.register_blueprint(
        create_blueprint(Settings(engine_socket=engine.socket, max_prompt_tokens=5, max_output_tokens=3))
    )
    ask = {"model": "demo", "stream": False}
    refused = app.test_client().post("/api/generate", json={**ask, "prompt": "a b c d e f g h"})
    answered = app.test_client().post("/api/generate", json={**ask, "prompt": "a b c d"})
    assert (refused.status_code, "may have 5" in refused.get_json()["error"]) == (400, True)
    assert (answered.get_json()["response"], answered.get_json()["done_reason"]) == ("a b c ", "length")


def running(asked: Inference) -> list[int]:
    return [model.running for model in asked.client.loaded()]


@pytest.mark.parametrize("end", ["close", "with", "drop"])
def test_a_generation_that_is_closed_is_cancelled(asked: Inference, end: str):
    generation = asked.chat("demo", user("a !sleep:600"))
    assert next(generation).text == "a "
    until(lambda: running(asked) == [1], 30, "it runs")
    if end == "close":
        generation.close()
    elif end == "with":
        with generation:
            pass
    else:
        del generation
    until(lambda: running(asked) == [0], 30, "nothing runs")


def test_threads_share_it(asked: Inference):
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(lambda word: asked.chat("demo", user(word)).answer().text, word) for word in "abcd"]
        assert [answer.result() for answer in answers] == ["a ", "b ", "c ", "d "]


def child(asked: Inference, answers) -> None:
    answers.put(asked.generate("demo", "of a child").answer().text)


def test_a_child_of_a_fork_uses_it_as_celerys_pool_does(asked: Inference):
    """After the parent has: a connection is not inherited."""
    assert asked.generate("demo", "of a parent").answer().text == "of a parent "
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    process = fork.Process(target=child, args=(asked, answers))
    process.start()
    assert answers.get() == "of a child "
    process.join()
    assert asked.generate("demo", "of a parent").answer().text == "of a parent "


def test_two_instances_with_settings_of_their_own(engine: EngineHost):
    app = Flask(__name__)
    for name, tokens in (("short", 1), ("long", 3)):
        settings = Settings(engine_socket=engine.socket, max_output_tokens=tokens)
        app.register_blueprint(create_blueprint(settings, name), url_prefix=f"/{name}")
    with app.app_context():
        texts = [inference(name).chat("demo", user("a b c d")).answer().text for name in ("short", "long")]
    assert texts == ["a ", "a b c "]


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_a_view_streams_what_the_route_streams(host: WebProgram, accept: str):
    answer = own(host, "/stream", "!rate:20 a b c <d>", Accept=accept)
    assert answer.headers["Content-Type"] == accept
    *records, last = parse(answer.content, accept)
    assert (text(records), last["done"], last["eval_count"]) == ("a b c <d> ", True, 4)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_a_view_streams_records_of_its_own(host: WebProgram, accept: str):
    records = parse(own(host, "/own", "!rate:20 a b", Accept=accept).content, accept)
    assert "".join(record["piece"] for record in records) == "a b "


def test_a_failure_ends_a_views_stream_with_an_error(host: WebProgram):
    for path in ("/stream", "/own"):
        answer = own(host, path, "a !fail:oh")
        last = parse(answer.content, NDJSON)[-1]
        assert (answer.status_code, last["error"], terminal(last)) == (200, "oh", True)
        assert last["request_id"] == answer.headers["X-Request-Id"]
        assert own(host, path, "!busy:later").status_code == 503


def test_a_view_answers_whole(host: WebProgram):
    assert own(host, "/whole", "a b").text == "a b "
    refused = own(host, "/whole", "!busy:later")
    assert (refused.status_code, refused.text, "Retry-After" in refused.headers) == (503, "later", True)


def test_a_view_asks_for_two_answers_at_once(host: WebProgram):
    assert own(host, "/both", "a !sleep:0.2 b").text == "b b "


@pytest.mark.parametrize(("path", "runs"), [("/stream", 1), ("/own", 1), ("/whole", 1), ("/both", 2)])
def test_a_client_that_disconnects_cancels_what_its_view_asked_for(host: WebProgram, path: str, runs: int):
    """Nothing is written meanwhile, so the socket alone can show it."""
    connection = host.connect()
    connection.sendall(f"GET {path}?ask=a+!sleep:600 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    host.wait_until_running(runs)
    connection.close()
    host.wait_until_idle()
    assert own(host, "/whole", "a b").text == "a b "


def test_a_call_is_reported_as_a_request_is(engine: EngineHost, tmp_path: Path):
    """In a shell: the log's line, and the metrics."""
    program = f"""
import logging, sys, time
from service import Inference, Settings
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
asked = Inference(Settings(engine_socket={engine.socket!r}, log_prompts=True))
asked.chat("demo", [{{"role": "user", "content": "a b"}}], caller="ann").answer()
while 'route="chat"' not in "".join(asked.client.metrics()):
    time.sleep(0.1)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    for field in ('"method":"PYTHON"', '"route":"chat"', '"key":"ann"', '"ending":"done"', '"output_tokens":2'):
        assert field in ran.stdout
    assert '"prompt":[[{"role":"user","content":"a b"}]]' in ran.stdout


def test_flask_shell_asks(engine: EngineHost, tmp_path: Path):
    (tmp_path / "host.py").write_text(APPLICATION)
    program = 'print(inference().generate("demo", "from a shell").answer().text)\n'
    env = {"VLLM_WSGI_ENGINE_SOCKET": engine.socket, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "flask", "--app", "host", "shell"]
    program = "from service import inference\n" + program
    ran = subprocess.run(command, cwd=tmp_path, env=env, input=program, capture_output=True, text=True, timeout=60)
    assert "from a shell" in ran.stdout, ran.stderr
