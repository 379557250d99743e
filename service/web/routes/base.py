"""What the routes of every dialect share: a body comes in, one generation runs, a response goes out.

Here and in the dialects' own route modules stands everything that needs Flask.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from string import punctuation
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from flask import Blueprint, Response, request
from msgspec.structs import replace
from werkzeug.exceptions import HTTPException

from ...config import Settings
from ...dialects.answer import Answer
from ...dialects.json_body import parse_json
from ...engine_client.client import Client
from ...engine_client.exchange import Job, Stream
from ...errors import HTTPRefusal, ModelNotFound, ServiceError
from ...protocol.events import Located, Vectors
from ...protocol.request import EmbedRequest, Request
from ...telemetry.request_log import prompt_of
from ...telemetry.traces import traceparent
from ..body import read_body
from ..context import current_id, entry_of, key_of, presence
from ..framing import Framing
from ..http_responses import empty_response, error_response, http_error_response, json_response, stream_response

# Werkzeug would redirect a path with two slashes to one with one, and fails where that holds a line break.
_AS_IS: dict[str, Any] = {"provide_automatic_options": False, "merge_slashes": False}
_ALL = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Route(NamedTuple):
    path: str
    methods: list[str]
    view: Callable[..., Response]


class Routes:
    """The routes of one dialect, over one client; a subclass names them and the shape of its errors.

    `bases` are the paths below which nothing but this dialect answers; `package` is what Go calls the module of its
    requests, and `empty_body` what is said of a body that is none.
    """

    name: ClassVar[str]
    bases: ClassVar[tuple[str, ...]]
    package: ClassVar[str]
    empty_body: ClassVar[str] = "EOF"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client

    def table(self) -> list[Route]:
        """Every route."""
        raise NotImplementedError

    @staticmethod
    def error_record(error: ServiceError) -> Any:
        """The body of every error answer."""
        raise NotImplementedError

    def blueprint(self) -> Blueprint:
        """To be registered within ours: what goes wrong on these routes is told in the dialect's shape."""
        blueprint = Blueprint(self.name, __name__)
        table = self.table()
        for path, methods, view in table:
            blueprint.add_url_rule(path, view.__name__, view, methods=methods, **_AS_IS)
        # Where Flask would answer an unknown path or method with the application's HTML, these answer in JSON.
        for base in self.bases:
            allowed = {method for route in table if route.path == base for method in route.methods}
            # A base that no route has is the application's, or another dialect's.
            own = {base: _ALL - allowed, f"{base}/": _ALL} if allowed else {}
            for path, unanswered in (own | {f"{base}/<path:path>": _ALL}).items():
                blueprint.add_url_rule(path, path, partial(self.unknown, base), methods=unanswered, **_AS_IS)
        blueprint.register_error_handler(ServiceError, partial(error_response, self.error_record))
        blueprint.register_error_handler(HTTPException, partial(http_error_response, self.error_record))
        return blueprint

    def unknown(self, base: str, path: str = "") -> Response:
        """What no route answers; raises Refused."""
        known = self._methods(f"{base}/{path}".removesuffix("/"))
        if request.path.endswith("/") and known:
            # As gin does: 307 keeps the method and the body.
            # As it came, but for what no header may hold.
            query = f"?{quote(request.query_string, safe=punctuation)}" if request.query_string else ""
            location = f"{quote(request.script_root)}{quote(request.path[:-1])}{query}"
            return empty_response(301 if request.method == "GET" else 307, {"Location": location})
        if not known:
            raise HTTPRefusal(f"404 page not found: {base}/{path}", status=404)
        response = error_response(
            self.error_record, HTTPRefusal(f"405 method not allowed: {request.method}", status=405)
        )
        response.headers["Allow"] = ", ".join(known)
        return response

    def _methods(self, path: str) -> list[str]:
        """What the routes at a path allow; nothing where there are none."""
        routes = [each for each in self.table() if re.fullmatch(_pattern(each.path), path)]
        return [method for route in routes for method in route.methods]

    def _body(self, struct: str) -> dict[str, Any]:
        return parse_json(read_body(self._settings.max_body), f"{self.package}.{struct}", self.empty_body)

    def _stream_or_collect(
        self, requests: list[Request], answer: Answer, chosen: Framing | None, keep_alive: float | None = None
    ) -> Response:
        """One answer to all requests, streamed in the framing that is chosen, or collected."""
        entry = entry_of(request.environ)
        entry.model = requests[0].model
        if self._settings.log_prompts:
            entry.prompt = [prompt_of(each) for each in requests]
        caller, trace = key_of(request.environ).caller, traceparent(entry)
        asked = [replace(each, request_id=current_id(), caller=caller, traceparent=trace) for each in requests]
        return self._respond(self._client.submit(asked, presence(), keep_alive), answer, chosen)

    def _respond(self, stream: Stream | Job, answer: Answer, chosen: Framing | None) -> Response:
        """What the engine does, told in records: one path, streamed or collected."""
        try:
            batches = answer.records(entry_of(request.environ).count(stream.batches()))
            if chosen is None:
                return json_response(answer.collect(batches))
            return stream_response(stream, batches, chosen, answer.failure)
        except BaseException:
            stream.close()
            raise

    def _embed(self, wanted: EmbedRequest, keep_alive: float | None = None) -> tuple[Located, Vectors]:
        """Raises ModelNotFound in the words that Ollama has for embeddings alone."""
        entry = entry_of(request.environ)
        entry.model = wanted.model
        if self._settings.log_prompts:
            entry.prompt = wanted.inputs
        caller = key_of(request.environ).caller
        asked = replace(wanted, request_id=current_id(), caller=caller, traceparent=traceparent(entry))
        try:
            located, embedded = self._client.embed(asked, presence(), keep_alive)
            entry.load = located.load_ns
            entry.add_prompt(embedded.prompt_tokens)
            return located, embedded
        except ModelNotFound:
            raise ModelNotFound(f'model "{wanted.model}" not found, try pulling it first') from None


def _pattern(path: str) -> str:
    """What matches a route's paths: `<name>` is a part of them, `<path:name>` the rest."""
    return re.sub("<[^>]*>", "[^/]+", re.sub("<path:[^>]*>", ".+", path))
