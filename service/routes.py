"""What the routes of every dialect share: a body comes in, one generation runs, a response goes out.

Here and in the dialects' own route modules stands everything that needs Flask.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from string import punctuation
from typing import IO, Any, ClassVar, NamedTuple
from urllib.parse import quote

from flask import Blueprint, Response, request
from msgspec.structs import replace
from werkzeug.exceptions import HTTPException

from . import framing, request_id
from .answer import Answer
from .body import parse_json
from .client import Client, Job, Stream
from .config import Settings
from .entry import entry_of
from .errors import BadRequest, ClientTooSlow, ModelNotFound, PayloadTooLarge, Refused, ServiceError
from .framing import Framing
from .messages import Embedded, EmbedRequest, Located, Request
from .request_log import prompt_of
from .traces import traceparent

JSON_TYPE = "application/json; charset=utf-8"

# nginx buffers without the last one; `no-transform` keeps HAProxy from compressing; tokens are nobody's to cache.
STREAM_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}

CHUNK_BYTES = 1 << 20
ENVIRON_ID = "vllm_wsgi.request_id"

# Werkzeug would redirect a path with two slashes to one with one, and fails where that holds a line break.
_AS_IS: dict[str, Any] = {"provide_automatic_options": False, "merge_slashes": False}
_ALL = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

ErrorRecord = Callable[[ServiceError], Any]


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
            raise Refused(f"404 page not found: {base}/{path}", status=404)
        response = error_response(self.error_record, Refused(f"405 method not allowed: {request.method}", status=405))
        response.headers["Allow"] = ", ".join(known)
        return response

    def _methods(self, path: str) -> list[str]:
        """What the routes at a path allow; nothing where there are none."""
        routes = [each for each in self.table() if re.fullmatch(_pattern(each.path), path)]
        return [method for route in routes for method in route.methods]

    def _body(self, struct: str) -> dict[str, Any]:
        return parse_json(read_body(self._settings.max_body), f"{self.package}.{struct}", self.empty_body)

    def _answer(
        self, requests: list[Request], answer: Answer, chosen: Framing | None, keep_alive: float | None = None
    ) -> Response:
        """One answer to all requests, streamed in the framing that is chosen, or collected."""
        entry = entry_of(request.environ)
        entry.model = requests[0].model
        if self._settings.log_prompts:
            entry.prompt = [prompt_of(each) for each in requests]
        asked = [replace(each, request_id=current_id(), traceparent=traceparent(entry)) for each in requests]
        return self._respond(self._client.submit(asked, request.environ, keep_alive), answer, chosen)

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

    def _embed(self, wanted: EmbedRequest, keep_alive: float | None = None) -> tuple[Located, Embedded]:
        """Raises ModelNotFound in the words that Ollama has for embeddings alone."""
        entry = entry_of(request.environ)
        entry.model = wanted.model
        if self._settings.log_prompts:
            entry.prompt = wanted.inputs
        asked = replace(wanted, request_id=current_id(), traceparent=traceparent(entry))
        try:
            located, embedded = self._client.embed(asked, request.environ, keep_alive)
            entry.load = located.load_ns
            entry.add_prompt(embedded.prompt_tokens)
            return located, embedded
        except ModelNotFound:
            raise ModelNotFound(f'model "{wanted.model}" not found, try pulling it first') from None


def _pattern(path: str) -> str:
    """What matches a route's paths: `<name>` is a part of them, `<path:name>` the rest."""
    return re.sub("<[^>]*>", "[^/]+", re.sub("<path:[^>]*>", ".+", path))


def read_body(limit: int) -> bytes:
    """The whole body; raises PayloadTooLarge over `limit` bytes, and BadRequest where it ended early.

    Read by hand: Werkzeug's own limit cuts a chunked body off silently, and a short one passes for whole.
    """
    length = request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        # No length and no server that knows where the body ends: there is none (RFC 9112 §6.3).
        return b""
    wanted = limit + 1 if length is None else min(length, limit + 1)
    body = b"" if wanted > limit and length is not None else _read(request.environ["wsgi.input"], wanted)
    if len(body) > limit or (length is not None and length > limit):
        raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
    if length is not None and len(body) < length:
        raise BadRequest(f"the request body ended after {len(body)} of {length} bytes")
    return body


def body_chunks() -> Iterator[bytes]:
    """A body of any length in pieces. Raises BadRequest where it ended early."""
    length, got = request.content_length, 0
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return
    while chunk := _read(request.environ["wsgi.input"], min(CHUNK_BYTES, (length or sys.maxsize) - got)):
        got += len(chunk)
        yield chunk
    if length is not None and got < length:
        raise BadRequest(f"the request body ended after {got} of {length} bytes")


def _read(source: IO[bytes], wanted: int) -> bytes:
    """Up to `wanted` bytes; a single read may bring fewer before the end.

    Raises BadRequest for broken chunks, and ClientTooSlow where the server has waited long enough.
    """
    parts = []
    try:
        while wanted > 0 and (part := source.read(min(wanted, 1 << 16))):
            parts.append(part)
            wanted -= len(part)
    except TimeoutError:
        raise ClientTooSlow("the request body came too slowly") from None
    except Exception:
        # Each server has errors of its own for what a client sent wrong, and nothing else happens here.
        raise BadRequest("the request body can't be read: it is cut or its chunks are malformed") from None
    return b"".join(parts)


def stream_response(
    stream: Stream | Job, batches: Iterator[list[Any]], chosen: Framing, failure: ErrorRecord
) -> Response:
    """A streamed answer. Its status waits for the first record, so that an early error has a status of its own."""
    first = next(batches)
    # The request's context is over when the chunks are made.
    identity, entry = {"request_id": current_id()}, entry_of(request.environ)
    entry.streams()

    def error_record(error: ServiceError) -> Any:
        entry.failed(error)
        return failure(error) | identity

    chunks = framing.stream(chain([first], batches), chosen, error_record)
    response = Response(chunks, content_type=chosen.media_type, headers=STREAM_HEADERS)
    response.call_on_close(stream.close)
    return response


def current_id() -> str:
    """The current request's id; it stays in the environ, where the server's access log finds it, too."""
    environ = request.environ
    if ENVIRON_ID not in environ:
        environ[ENVIRON_ID] = request_id.accept_or_make(request.headers.get(request_id.HEADER, ""))
    return str(environ[ENVIRON_ID])


def identified(response: Response) -> Response:
    response.headers[request_id.HEADER] = current_id()
    return response


def json_response(record: Any, status: int = 200) -> Response:
    return Response(framing.encode(record), status, content_type=JSON_TYPE)


def empty_response(status: int, headers: dict[str, str] | None = None) -> Response:
    response = Response(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response


def error_response(error_record: ErrorRecord, error: ServiceError) -> Response:
    entry_of(request.environ).failed(error)
    response = json_response(error_record(error), error.status)
    response.headers.update(error.headers)
    return response


def http_error_response(error_record: ErrorRecord, error: HTTPException) -> Response:
    """Flask's and Werkzeug's own errors, as JSON and with their headers (Allow, Location)."""
    status = error.code or 500
    told = f"{status} {(error.name or 'error').lower()}"
    # Nothing was refused where something broke.
    response = error_response(error_record, ServiceError(told) if status == 500 else Refused(told, status=status))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response
