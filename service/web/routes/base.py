"""The steps that the routes of every dialect share: read a body, run one generation, make the response.

In: the current request. Out: a response, streamed or whole.
It never knows the fields of a body or the bytes of a stream.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial, update_wrapper
from typing import Any, ClassVar

from flask import Blueprint, Response, request
from msgspec.structs import replace
from werkzeug.exceptions import HTTPException, default_exceptions

from ...access.scopes import Scope
from ...config import Settings
from ...dialects.answer import Answer
from ...dialects.bounds import Bounds
from ...dialects.json_body import parse_json
from ...dialects.json_size import JSONSize
from ...engine_client.client import Client
from ...engine_client.exchange import Job
from ...engine_client.stream import Stream
from ...errors import HTTPRefusal, ModelNotFound, ServiceError
from ...protocol.events import Event, Located, Vectors
from ...protocol.joined import joined_whole
from ...protocol.request import Caller, EmbedRequest, Request
from ...telemetry.request_log import prompt_of
from ...telemetry.traces import traceparent
from ..body import read_body
from ..context import context, presence
from ..fast_path import StreamFastPath
from ..framing import Framing
from ..http_responses import error_response, http_error_response, json_response, redirect_to, stream_answer
from ..route import Fallback, Route
from ..shared_room import BODY_BYTES, room_for_logprobs
from ..stream_keeper import StreamKeeper

# Werkzeug would redirect a path with two slashes to one with one slash, and fails when the path holds a line break.
_AS_IS: dict[str, Any] = {"provide_automatic_options": False, "merge_slashes": False}
# As in `dialects/json_size.py`. A body of so many has tens of milliseconds of work in each step.
MANY_MARKS = 20_000
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Routes:
    """The routes of one dialect, over one client; a subclass declares them and the shape of its errors.

    Only this dialect answers below the paths of `bases`. `package` is the Go package of its requests, which refusals
    name as Ollama does. `empty_body` is the refusal of an empty body.
    """

    name: ClassVar[str]
    bases: ClassVar[tuple[str, ...]]
    package: ClassVar[str]
    empty_body: ClassVar[str] = "EOF"

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._bounds = Bounds(
            settings.max_messages,
            settings.max_tools,
            settings.max_images,
            settings.max_prompt_logprobs,
            settings.max_logprobs,
        )
        self._keeper = StreamKeeper(settings, client)
        # Routes below the same bases that are declared apart.
        self.neighbours: tuple[Routes, ...] = ()

    def table(self) -> list[Route]:
        """Return every route, in the order of the documentation."""
        raise NotImplementedError

    @staticmethod
    def error_record(error: ServiceError) -> Any:
        """Return the body of an error answer."""
        raise NotImplementedError

    def routes(self) -> list[Route]:
        """Return the declared routes and the fallbacks below `bases`.

        For unknown paths and methods Flask would answer with the application's HTML; the fallbacks answer in JSON.
        """
        table = self.table()
        fallbacks: list[Route] = []
        for base in self.bases:
            allowed = {method for route in table if route.path == base for method in route.methods}
            # A base that is not a route itself is left to the application, or to another dialect.
            own = {base: METHODS - allowed, f"{base}/": METHODS} if allowed else {}
            paths = own | {f"{base}/<path:path>": METHODS}
            fallbacks += [self.fallback(base, path, methods) for path, methods in paths.items()]
        return table + fallbacks

    def fallback(self, base: str, path: str, methods: set[str]) -> Fallback:
        """Return what answers these methods at a path that is `base`, or below it."""
        # Extensions such as Flask-WTF distinguish views by their names.
        view = update_wrapper(partial(self.unknown, base), self.unknown)
        return Fallback(path, tuple(sorted(methods)), view, Scope.ANY, "refuse an unknown path or method")

    def blueprint(self) -> Blueprint:
        """Return a blueprint to be nested in ours; errors on its routes have the dialect's shape."""
        blueprint = Blueprint(self.name, __name__)
        for route in self.routes():
            blueprint.add_url_rule(route.path, route.endpoint, route.view, methods=route.methods, **_AS_IS)
        blueprint.register_error_handler(ServiceError, partial(error_response, self.error_record))
        http_errors = partial(http_error_response, self.error_record)
        blueprint.register_error_handler(HTTPException, http_errors)
        # By their codes, too: an application's handler for a code would come before ours for all of them.
        for code in default_exceptions:
            blueprint.register_error_handler(code, http_errors)
        return blueprint

    def unknown(self, base: str, path: str = "") -> Response:
        """Answer a path or method that no route has: a redirect, a 404 or a 405. Raises HTTPRefusal."""
        known = self._methods(f"{base}/{path}".removesuffix("/"))
        if request.path.endswith("/") and known:
            return redirect_to(request.path[:-1])
        if not known:
            raise HTTPRefusal(f"404 page not found: {base}/{path}", status=404)
        response = error_response(
            self.error_record, HTTPRefusal(f"405 method not allowed: {request.method}", status=405)
        )
        response.headers["Allow"] = ", ".join(known)
        return response

    def _methods(self, path: str) -> list[str]:
        """Return the methods of all routes at a path, also those of `neighbours`; none when there is no route."""
        table = [route for each in (self, *self.neighbours) for route in each.table()]
        routes = [each for each in table if re.fullmatch(_pattern(each.path), path)]
        return [method for route in routes for method in route.methods]

    def _body(self, struct: str) -> dict[str, Any]:
        """Return the body's JSON object; refusals name `struct` as Go does. Raises BadRequest and PayloadTooLarge."""
        return self._sized_body(struct)[0]

    def _sized_body(self, struct: str) -> tuple[dict[str, Any], JSONSize]:
        """Return the body's JSON object, and the number of its values.

        Raises as `_body` does, and TooManyRequests or Unavailable where too many bodies are read at the same time.
        """
        size = JSONSize()
        with BODY_BYTES.part_of(context().key.caller.name, self._settings.max_bodies) as take:

            def check(chunk: bytes) -> None:
                take(len(chunk))
                size.add(chunk)

            body = read_body(self._settings.max_body, check)
            fields = parse_json(body, f"{self.package}.{struct}", self.empty_body, size.long_numbers)
        if size.marks > MANY_MARKS:
            # To decode very many values takes as long as to parse them: other requests get their turn in between.
            time.sleep(0)
        self._bounds.check_body(fields)
        return fields, size

    def _stream_or_collect(
        self, requests: list[Request], answer: Answer, chosen: Framing | None, keep_alive: float | None = None
    ) -> Response:
        """Return one answer to all requests, streamed in the chosen framing, or collected without one.

        Raises BadRequest.
        """
        asked = self._asked(requests, kept=chosen is None or answer.keeps_logprobs)
        return self._respond(self._client.submit(asked, presence(), keep_alive), answer, chosen)

    def _asked(self, requests: list[Request], kept: bool) -> list[Request]:
        """Return the requests with their origin, and record them for the log. Raises BadRequest.

        `kept`: the whole answers are in memory at their end.
        """
        self._bounds.check_requests(requests)
        stats = context().stats
        stats.model = requests[0].model
        if self._settings.log_prompts:
            stats.prompt = [prompt_of(each) for each in requests]
        scored = self._bounds.scored_tokens(requests)
        origin = _origin()
        if kept:
            caller: Caller = origin["caller"]
            most = self._bounds.kept_tokens(requests, caller.max_output_tokens)
            origin["caller"] = replace(caller, max_output_tokens=most)
        return [replace(each, scored_tokens=scored, **origin) for each in requests]

    def _respond(self, stream: Stream | Job, answer: Answer, chosen: Framing | None) -> Response:
        """Turn the engine's events into a response: one path, streamed or collected."""
        stats, path = context().stats, None
        if isinstance(stream, Stream):
            stats.stream = stream
            # Log probabilities that are kept are counted, which only `batches` does.
            if chosen is not None and not answer.keeps_logprobs:
                path = StreamFastPath(stream, stats, lambda events: chosen.frames(answer.records_of_all(events)))
        answer.streams = chosen is not None
        try:
            batches = stats.count(stream.batches())
            if chosen is not None:
                kept = self._held(batches) if answer.keeps_logprobs else batches
                return stream_answer(stream, answer.records(kept), chosen, answer.failure, path)
            with self._room() as held:
                return json_response(answer.collect(answer.records(joined_whole(held(batches)))))
        except BaseException:
            stream.close()
            raise

    def _room(self) -> AbstractContextManager[Callable[[Iterable[list[Event]]], Iterator[list[Event]]]]:
        return room_for_logprobs(context().key.caller.name, self._settings.max_logprobs)

    def _held(self, batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
        """Yield the batches, whose log probabilities are held until the last one."""
        with self._room() as held:
            yield from held(batches)

    def _embed(self, wanted: EmbedRequest, keep_alive: float | None = None) -> tuple[Located, Vectors]:
        """Return where the model was located and the vectors. Raises ModelNotFound in Ollama's words for embeddings."""
        stats = context().stats
        stats.model = wanted.model
        if self._settings.log_prompts:
            stats.prompt = wanted.inputs
        try:
            located, embedded = self._client.embed(replace(wanted, **_origin()), presence(), keep_alive)
            stats.load = located.load_ns
            stats.add_prompt(embedded.prompt_tokens)
            return located, embedded
        except ModelNotFound:
            raise ModelNotFound(f'model "{wanted.model}" not found, try pulling it first') from None


def _origin() -> dict[str, Any]:
    """Return the fields of an engine request that name its origin."""
    current = context()
    return {"request_id": current.id, "caller": current.key.caller, "traceparent": traceparent(current.span)}


def _pattern(path: str) -> str:
    """Return a regular expression for a route's paths: `<name>` is one part of a path, `<path:name>` the rest."""
    return re.sub("<[^>]*>", "[^/]+", re.sub("<path:[^>]*>", ".+", path))
