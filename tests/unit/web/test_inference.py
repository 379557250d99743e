"""What the application's own code can ask, and what it gets without an engine. tests/http asks an engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from flask import Flask

from service import Inference, Settings, SettingsError, create_blueprint, inference, stream_response
from service.drain import Drain
from service.errors import BadRequest, GoingDown, Unavailable
from service.web.response_stream import stream_response as streamed

USER = {"role": "user", "content": "a"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(engine_socket=str(tmp_path / "nobody.sock"))


@pytest.fixture
def app(settings: Settings) -> Flask:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(settings), url_prefix="/llm")
    return app


def test_the_application_finds_it_under_the_blueprints_name(app: Flask, settings: Settings):
    app.register_blueprint(create_blueprint(settings, "second"), url_prefix="/second")
    app.register_blueprint(create_blueprint(settings, "third"), name="renamed", url_prefix="/third")
    with app.app_context():
        found = [inference(), inference("second"), inference("renamed")]
    assert found == [app.extensions[name] for name in ("vllm_wsgi", "second", "renamed")]
    assert len({id(each) for each in found}) == 3


def test_an_application_without_the_blueprint_is_told_so():
    with Flask(__name__).app_context(), pytest.raises(SettingsError, match="no blueprint of vllm-wsgi"):
        inference()


def test_without_an_engine_host_it_says_what_to_do():
    with pytest.raises(SettingsError, match="VLLM_WSGI_ENGINE_SOCKET is empty"):
        Inference(Settings())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, "model is required"),
        ({"messages": []}, "there is nothing to answer"),
        ({"messages": [{"role": 1}]}, "messages.role"),
        ({"messages": [{"role": "user", "content": object()}]}, "can't be written as JSON"),
        ({"options": {"top_k": "many"}}, "top_k"),
        ({"think": "hard"}, "invalid think value"),
        ({"format": "yaml"}, "invalid format"),
        ({"keep_alive": "soon"}, "soon"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused_at_once(settings: Settings, arguments: dict, message: str):
    with pytest.raises(BadRequest, match=message):
        Inference(settings).chat(**{"model": "demo", "messages": [USER], **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"messages": [USER] * 10_001}, "messages may hold at most 10000 values"),
        ({"messages": [{"role": "user", "images": [b"a"] * 501}]}, "at most 500 images"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}] * 1_025}, "tools may hold at most 1024 values"),
        ({"options": {"stop": ["x"] * 129}}, "options.stop may hold at most 128 values"),
        ({"format": {"enum": ["x" * 1024] * 1024}}, "the JSON schema may have at most"),
        ({"messages": [{"role": "user", "content": [[]] * 500_001}]}, "too many values"),
    ],
)
def test_the_bounds_of_the_routes_hold(settings: Settings, arguments: dict, message: str):
    with pytest.raises(BadRequest, match=message):
        Inference(settings).chat(**{"model": "demo", "messages": [USER], **arguments})


def test_a_setting_changes_a_bound(settings: Settings):
    with pytest.raises(BadRequest, match="messages may hold at most 1 values"):
        Inference(dataclasses.replace(settings, max_messages=1)).chat("demo", [USER, USER])
    with pytest.raises(BadRequest, match="input may hold at most 1 values"):
        Inference(dataclasses.replace(settings, max_messages=1)).embed("demo", ["a", "b"])


def test_an_empty_prompt_is_refused(settings: Settings):
    with pytest.raises(BadRequest, match="there is nothing to answer"):
        Inference(settings).generate("demo", "")


def test_nothing_is_asked_before_the_first_delta(settings: Settings):
    generation = Inference(settings).chat("demo", [USER])
    generation.close()
    assert list(generation) == []


def test_an_engine_host_that_is_not_there_is_an_error_of_our_tree(settings: Settings):
    with pytest.raises(Unavailable, match="the engine can't be reached"):
        Inference(settings).chat("demo", [USER]).answer()
    with pytest.raises(Unavailable, match="the engine can't be reached"):
        Inference(settings).embed("demo", "a")


def test_a_process_that_shuts_down_begins_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    drain = Drain()
    drain.begin(60)
    monkeypatch.setattr("service.drain.drain", drain)
    with pytest.raises(GoingDown):
        next(Inference(settings).chat("demo", [USER]))
    with pytest.raises(GoingDown):
        Inference(settings).embed("demo", "a")


def test_a_view_whose_request_is_refused_has_the_errors_status(app: Flask):
    app.add_url_rule("/ask", view_func=lambda: stream_response(inference().chat("demo", [USER])))
    answer = app.test_client().get("/ask")
    assert (answer.status_code, answer.mimetype) == (503, "application/json")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.get_json()["request_id"] == answer.headers["X-Request-Id"]


# --- iterables that are not ours -------------------------------------------------------------------------


@dataclasses.dataclass
class Piece:
    text: str


@pytest.mark.parametrize(
    ("query", "accept", "media_type", "body"),
    [
        ("", "*/*", "application/x-ndjson", '{"text":"a"}\n {"text":"b"}\n'),
        ("", "text/event-stream", "text/event-stream", 'data: {"text":"a"}\n\n: heartbeat\n\ndata: {"text":"b"}\n\n'),
        ("?alt=sse", "", "text/event-stream", 'data: {"text":"a"}\n\n: heartbeat\n\ndata: {"text":"b"}\n\n'),
    ],
)
def test_each_piece_is_a_record_and_none_a_heartbeat(query: str, accept: str, media_type: str, body: str):
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: streamed([{"text": "a"}, None, Piece("b")]))
    answer = app.test_client().get(f"/{query}", headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype, answer.text) == (200, media_type, body)


def test_the_view_may_choose_the_format():
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: streamed([1], "sse"))
    assert app.test_client().get("/").text == "data: 1\n\n"


def test_an_empty_iterable_is_an_empty_stream():
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: streamed([]))
    assert (app.test_client().get("/").status_code, app.test_client().get("/").data) == (200, b"")


def test_a_later_error_is_the_last_record_and_the_iterable_is_closed():
    closed = []

    def pieces():
        try:
            yield {"text": "a"}
            raise Unavailable("no more")
        finally:
            closed.append(True)

    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: streamed(pieces()))
    first, last = app.test_client().get("/").text.splitlines()
    assert (first, '"error":"no more"' in last, closed) == ('{"text":"a"}', True, [True])


def test_an_error_of_the_application_before_the_first_piece_is_the_applications():
    def pieces():
        raise LookupError("no such chat")
        yield

    app = Flask(__name__)
    app.testing = True
    app.add_url_rule("/", view_func=lambda: streamed(pieces()))
    with pytest.raises(LookupError):
        app.test_client().get("/")
