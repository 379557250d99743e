"""What an application's hooks do to our requests and streams, and what the check finds in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, current_app, request

from service import Settings, create_blueprint, stream_response
from service.dialects.ollama.answer import error_record
from service.web.extension_check import around
from service.web.framing import NDJSON, CursorFraming
from service.web.http_responses import resumable_answer
from service.web.neighbours import UncollectedResponse

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """Without an engine: a body that is read ends in a 503, and one that is not in a 400."""
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(Settings(engine_socket=str(tmp_path / "engine.sock"), max_body=1000)))
    return app


def ask(app: Flask, content_type: str = "application/json", text: str = "a") -> int:
    body = {"model": "demo", "messages": [{"role": "user", "content": text}]}
    return app.test_client().post("/api/chat", data=json.dumps(body), content_type=content_type).status_code


@pytest.mark.parametrize(
    "hook",
    [
        lambda: request.form.get("a"),
        lambda: request.values.get("a"),
        lambda: request.files.get("a"),
        lambda: request.get_data(),
        lambda: request.get_json(silent=True),
        lambda: request.is_json,
    ],
)
@pytest.mark.parametrize(
    "content_type", [FORM, f"{FORM}; charset=utf-8", "multipart/form-data; boundary=a", "text/plain"]
)
def test_a_hook_that_reads_the_request_leaves_us_the_body(app: Flask, hook: Callable[[], Any], content_type: str):
    app.before_request(lambda: print(hook()))
    assert ask(app, content_type) == 503


def test_a_body_that_a_hook_has_read_keeps_its_limit(app: Flask):
    app.before_request(lambda: print(request.get_data()))
    assert ask(app, text="a" * 1000) == 413


def test_the_applications_own_forms_stay_forms(app: Flask):
    app.add_url_rule("/own", view_func=lambda: request.form["a"], methods=["POST"])
    assert app.test_client().post("/own", data={"a": "b"}).text == "b"


class Envelope(Response):
    """A class of responses of the application's own."""


@pytest.mark.parametrize("response_class", [Response, Envelope])
def test_a_hook_that_reads_or_replaces_the_data_leaves_the_stream(response_class: type[Response]):
    seen = []

    def read(response: Response) -> Response:
        seen.append((response.data, response.get_data(as_text=True), response.is_streamed, type(response).__mro__))
        response.data = b"replaced"
        response.set_data("replaced")
        response.add_etag()
        return response

    app = Flask(__name__)
    app.response_class = response_class
    app.after_request(read)
    app.add_url_rule("/", view_func=lambda: stream_response(str(number) for number in range(3)))
    assert app.test_client().get("/").text == '"0"\n"1"\n"2"\n'
    assert seen[0][:3] == (b"", "", True)
    assert response_class in seen[0][3]


@pytest.mark.parametrize("response_class", [Response, Envelope])
def test_streams_of_events_and_kept_streams_are_as_safe_from_hooks(app: Flask, response_class: type[Response]):
    app.response_class = response_class
    answered: list[Response] = []
    app.after_request(lambda response: answered.append(response) or response)
    app.test_client().get("/api/events").close()
    with app.test_request_context():
        answered.append(resumable_answer(iter([]), CursorFraming(NDJSON), error_record, "end", lambda: None))
    for each in answered:
        assert isinstance(each, UncollectedResponse)
        assert isinstance(each, response_class)


@pytest.mark.parametrize("code", [401, 403, 404, 405, 413, 429, 500, 503])
def test_an_applications_error_pages_stay_out_of_ours(app: Flask, code: int):
    app.register_error_handler(code, lambda error: ("<h1>ours</h1>", code))
    app.before_request(lambda: abort(code))
    assert app.test_client().get("/api/tags").is_json
    assert app.test_client().get("/own").text == "<h1>ours</h1>"


class CSRF:
    """Flask-WTF's protection, as far as we look at it."""

    def __init__(self, app: Flask) -> None:
        app.extensions["csrf"] = self
        app.config["WTF_CSRF_ENABLED"] = True
        self._exempt_blueprints: set[Blueprint | None] = set()
        app.before_request(self.protect)

    def exempt(self, blueprint: Blueprint) -> None:
        self._exempt_blueprints.add(blueprint)

    def protect(self) -> None:
        if current_app.blueprints.get(request.blueprint or "") not in self._exempt_blueprints:
            abort(400)


def test_an_exemption_of_the_blueprint_holds_for_all_of_its_routes(tmp_path: Path):
    app = Flask(__name__)
    csrf = CSRF(app)
    blueprint = create_blueprint(Settings(engine_socket=str(tmp_path / "engine.sock")))
    app.register_blueprint(blueprint)
    assert ask(app) == 400
    assert [each.good for each in around(app, blueprint)] == [False]
    csrf.exempt(blueprint)
    assert ask(app) == 503
    assert [each.good for each in around(app, blueprint)] == [True]


def test_every_view_has_a_name(app: Flask):
    """Flask-WTF and others ask for it."""
    assert all(view.__name__ for view in app.view_functions.values())


@pytest.mark.parametrize(
    ("config", "good"),
    [
        ({"COMPRESS_MIMETYPES": ["text/html"]}, True),
        ({"COMPRESS_MIMETYPES": ["text/event-stream"]}, False),
        ({"COMPRESS_MIMETYPES": ["application/x-ndjson"], "COMPRESS_STREAMS": False}, True),
    ],
)
def test_the_check_finds_what_compresses_streams(config: dict[str, Any], good: bool):
    app = Flask(__name__)
    app.config.update(config)
    (finding,) = around(app, Blueprint("any", __name__))
    assert finding.good is good
