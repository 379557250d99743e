"""The routes: each reads as a list of verbs. Everything that needs Flask stands here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO, Any

from flask import Blueprint, Flask, Response, request
from msgspec.structs import replace
from werkzeug.exceptions import HTTPException

from . import __version__, framing, ollama, ollama_embeddings, ollama_models, request_id
from .body import parse_json
from .client import Client, Stream
from .config import Settings, SettingsError
from .errors import BadRequest, ModelNotFound, PayloadTooLarge, ServiceError, Unsupported
from .messages import Embedded, Located
from .negotiation import negotiate
from .origins import PREFLIGHT_HEADERS, PREFLIGHT_VARY, Origins

JSON_TYPE = "application/json; charset=utf-8"
ENVIRON_ID = "vllm_wsgi.request_id"

# nginx buffers without the last one; `no-transform` keeps HAProxy from compressing; tokens are nobody's to cache.
STREAM_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}


# Ollama's routes that change its store or speak to its makers' servers, by what follows /api/.
UNSUPPORTED = ("pull", "push", "create", "copy", "delete", "blobs", "me", "signout", "user")
_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_blueprint(settings: Settings | None = None, name: str = "vllm_wsgi") -> Blueprint:
    """A blueprint with Ollama's routes, to be registered under any `url_prefix`.

    `settings` come from the environment where none are given. Nothing is connected before the first request, and the
    host application's own routes, error handlers and JSON provider stay as they are. Raises SettingsError where no
    engine host is named.
    """
    settings = settings or Settings.from_env()
    if not settings.engine_socket:
        raise SettingsError(
            "VLLM_WSGI_ENGINE_SOCKET is empty: start `python -m service.engine.host` and name its control socket, "
            "or start gunicorn with our gunicorn.conf.py, which does both"
        )
    blueprint = Blueprint(name, __name__)
    routes = Routes(settings, Client(settings.engine_socket, settings.heartbeat))
    for path, methods, view in routes.table():
        blueprint.add_url_rule(path, view.__name__, view, methods=methods, provide_automatic_options=False)
    # Where Flask would answer an unknown path or method with the application's HTML, these answer in JSON.
    blueprint.add_url_rule("/api/<path:path>", "unknown", routes.unknown, methods=_ALL, provide_automatic_options=False)
    guard = Guard(Origins(settings.origins))
    blueprint.before_request(guard.check)
    blueprint.after_request(guard.tell)
    blueprint.after_request(identified)
    blueprint.register_error_handler(ServiceError, error_response)
    blueprint.register_error_handler(HTTPException, http_error_response)
    return blueprint


class Guard:
    """Refuses foreign pages, answers preflights, and tells browsers what is allowed."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def check(self) -> Response | None:
        origin = request.headers.get("Origin", "")
        if not self._origins.foreign(origin, request.host):
            return None
        if not self._origins.allows(origin):
            return json_response({"error": f"origin {origin} is not allowed; VLLM_WSGI_ORIGINS can allow it"}, 403)
        if request.method != "OPTIONS":
            return None
        preflight = Response(status=204, headers=PREFLIGHT_HEADERS)
        preflight.vary.update(PREFLIGHT_VARY)
        return preflight

    def tell(self, response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        if self._origins.foreign(origin, request.host) and self._origins.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self._origins.all else origin
            if not self._origins.all:
                response.vary.add("Origin")
        return response


class Routes:
    """The views, over one client."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client

    def table(self) -> list[tuple[str, list[str], Callable[..., Response]]]:
        """Path, methods and view of every route."""
        return [
            ("/", ["GET", "HEAD"], self.root),
            ("/api/version", ["GET", "HEAD"], self.version),
            ("/api/status", ["GET"], self.status),
            ("/api/tags", ["GET", "HEAD"], self.tags),
            ("/api/ps", ["GET"], self.ps),
            ("/api/show", ["POST"], self.show),
            ("/api/generate", ["POST"], self.generate),
            ("/api/chat", ["POST"], self.chat),
            ("/api/embed", ["POST"], self.embed),
            ("/api/embeddings", ["POST"], self.embeddings),
        ]

    def root(self) -> Response:
        return Response("Ollama is running", content_type="text/plain; charset=utf-8")

    def version(self) -> Response:
        return json_response({"version": self._settings.ollama_version})

    def status(self) -> Response:
        """Ollama's answer about its cloud, and below it ours: the version and what each model is doing."""
        models = [
            {"name": model.info.name, "state": model.state, "running": model.running, "waiting": model.waiting,
             "restarts": model.restarts}
            for model in self._client.loaded()
        ]  # fmt: skip
        cloud = {"disabled": True, "source": "config"}
        return json_response({"cloud": cloud, "vllm_wsgi": {"version": __version__, "models": models}})

    def tags(self) -> Response:
        newest_first = sorted(self._client.models(), key=lambda info: -info.modified_at)
        return json_response({"models": [ollama_models.tag(info) for info in newest_first]})

    def ps(self) -> Response:
        ready = [model for model in self._client.loaded() if model.state == "ready"]
        longest_first = sorted(ready, key=lambda model: -model.expires_at)
        return json_response({"models": [ollama_models.loaded(model) for model in longest_first]})

    def show(self) -> Response:
        name = ollama.parse_model(self._body("ShowRequest"), "ShowRequest")
        return json_response(ollama_models.show(self._client.show(name.short)))

    def generate(self) -> Response:
        call = ollama.parse_generate(self._body("GenerateRequest"))
        return self._answer(call, ollama.GenerateAnswer(call))

    def chat(self) -> Response:
        call = ollama.parse_chat(self._body("ChatRequest"))
        return self._answer(call, ollama.ChatAnswer(call))

    def embed(self) -> Response:
        began = time.monotonic_ns()
        call = ollama_embeddings.parse_embed(self._body("EmbedRequest"))
        located, embedded = self._embed(call)
        took = time.monotonic_ns() - began
        return json_response(ollama_embeddings.embed_record(call, embedded, located.load_ns, took))

    def embeddings(self) -> Response:
        call = ollama_embeddings.parse_embeddings(self._body("EmbeddingRequest"))
        _, embedded = self._embed(call)
        return json_response(ollama_embeddings.embeddings_record(embedded))

    def unknown(self, path: str) -> Response:
        known = {route: methods for route, methods, _ in self.table()}
        methods = known.get(f"/api/{path}")
        if path.partition("/")[0] in UNSUPPORTED:
            raise Unsupported(f"/api/{path} is not supported: the models of this server are its operator's to declare")
        if path.endswith("/") and f"/api/{path[:-1]}" in known:
            # As gin does: 307 keeps the method and the body.
            query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
            location = f"{request.script_root}{request.path[:-1]}{query}"
            return Response(status=301 if request.method == "GET" else 307, headers={"Location": location})
        if methods is None:
            return json_response({"error": f"404 page not found: /api/{path}"}, 404)
        response = json_response({"error": f"405 method not allowed: {request.method}"}, 405)
        response.headers["Allow"] = ", ".join(methods)
        return response

    def _body(self, struct: str) -> dict[str, Any]:
        return parse_json(read_body(self._settings.max_body), struct)

    def _answer(self, call: ollama.Call, answer: ollama.Answer) -> Response:
        """One generation in the format that the client wants; one path, streamed or collected."""
        chosen = negotiate(call.stream, call.stream_type, request.args.get("alt"), request.headers.get("Accept", ""))
        if call.request is None:
            return varying(json_response(self._load_or_unload(call, answer)))
        asked = replace(call.request, request_id=current_id())
        stream = self._client.submit(asked, request.environ, call.keep_alive)
        try:
            batches = answer.records(stream.batches())
            if chosen is None:
                return varying(json_response(answer.collect(batches)))
            return stream_response(stream, batches, chosen)
        except BaseException:
            stream.close()
            raise

    def _embed(self, call: ollama_embeddings.EmbedCall) -> tuple[Located, Embedded]:
        """Raises ModelNotFound in the words that Ollama has on these routes alone."""
        try:
            asked = replace(call.request, request_id=current_id())
            return self._client.embed(asked, request.environ, call.keep_alive)
        except ModelNotFound:
            raise ModelNotFound(f'model "{call.request.model}" not found, try pulling it first') from None

    def _load_or_unload(self, call: ollama.Call, answer: ollama.Answer) -> Any:
        if call.unload:
            self._client.unload(call.model)
            return answer.only("unload")
        answer.located(self._client.load(call.model, request.environ, call.keep_alive))
        return answer.only("load")


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


def _read(source: IO[bytes], wanted: int) -> bytes:
    """Up to `wanted` bytes; a single read may bring fewer before the end. Raises BadRequest for broken chunks."""
    parts = []
    try:
        while wanted > 0 and (part := source.read(min(wanted, 1 << 16))):
            parts.append(part)
            wanted -= len(part)
    except Exception:
        # Each server has errors of its own for what a client sent wrong, and nothing else happens here.
        raise BadRequest("the request body can't be read: it is cut or its chunks are malformed") from None
    return b"".join(parts)


def stream_response(stream: Stream, batches: Iterator[list[Any]], chosen: framing.Framing) -> Response:
    """A streamed answer. Its status waits for the first record, so that an early error has a status of its own."""
    first = next(batches)
    # The request's context is over when the chunks are made.
    identity = {"request_id": current_id()}
    chunks = framing.stream(chain([first], batches), chosen, lambda error: ollama.error_record(error) | identity)
    response = Response(chunks, content_type=chosen.media_type, headers=STREAM_HEADERS)
    response.call_on_close(stream.close)
    return varying(response)


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


def varying(response: Response) -> Response:
    response.vary.add("Accept")
    return response


def error_response(error: ServiceError) -> Response:
    response = json_response(ollama.error_record(error), error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def http_error_response(error: HTTPException) -> Response:
    """Flask's and Werkzeug's own errors, as JSON and with their headers (Allow, Location)."""
    response = json_response({"error": f"{error.code} {(error.name or 'error').lower()}"}, error.code or 500)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def register_json_errors(app: Flask) -> None:
    """Answer in JSON for the paths that no blueprint knows; for an application that has no pages of its own."""
    app.register_error_handler(HTTPException, lambda error: identified(http_error_response(error)))
