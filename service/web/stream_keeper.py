"""Begin streams that outlive their connection, and send them to clients that come back.

In: a parsed body, or the id of a stream. Out: a response.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from flask import Response, request

from ..access.stream_ids import is_stream_id_of, new_stream_id, sign_link
from ..config import Settings
from ..dialects.answer import Answer
from ..dialects.keeping import Keeping
from ..drain import refuse_while_draining
from ..engine_client.client import Client
from ..engine_client.cursor import MAX_ANSWERS, Cursor
from ..engine_client.disconnect import Presence
from ..engine_client.kept_search import SETTLED_SECONDS, AttachedStream, stream_gone, stream_not_found
from ..errors import BadRequest, HTTPRefusal, ResponseNotFound, Unavailable
from ..protocol.events import Event, Located
from ..protocol.kept import Keep
from ..protocol.request import Request
from .context import context, presence
from .fast_path import StreamFastPath
from .framing import NDJSON, RETRY, SSE, SSE_WITH_DONE, CursorFraming, Framing
from .http_responses import STREAM_HEADERS, empty_response, json_response, resumable_answer
from .kept_answers import KINDS, Call, KeptRecords, now, read_recipe, recipe_of, with_id
from .negotiation import negotiate

STREAMS = "/api/streams"
RESPONSES = "/v1/responses"


class StreamKeeper:
    """Responses with kept streams, over one client."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client

    def begin(
        self,
        kind: str,
        call: Call,
        requests: list[Request],
        chosen: Framing | None,
        keeping: Keeping,
        keep_alive: float | None = None,
    ) -> Response:
        """Begin a stream: 200 and the stream, or 202 and its address. Raises BadRequest and TooManyRequests.

        A client that sends its request again, with the id of the last event that it got, gets the rest. Clients that
        read events over POST work so.
        """
        last = request.headers.get("Last-Event-ID", "").rpartition(".")[0]
        if last and is_stream_id_of(context().key, last):
            return self.resume(last)
        self._check(requests, chosen, keeping)
        stream_id, began = new_stream_id(context().key), now()
        call = with_id(call, stream_id)
        keep = self.keep(stream_id, recipe_of(kind, call), keeping, began)
        answer = KINDS[kind].answer(call, began)
        if chosen is None or keeping.background:
            check = partial(_check_located, answer)
            self._client.keep(requests, Presence(), keep_alive, keep).run_in_background(check)
            return self._accepted(stream_id)
        stream = self._client.keep(requests, presence(), keep_alive, keep)
        records = KeptRecords(answer, Cursor(stream_id), sum(each.n for each in requests), not chosen.terminator)
        stats, framing = context().stats, CursorFraming(chosen)
        batches = records.batches(stats.count(stream.batches()))
        try:
            # An error before the first record decides the status.
            first = next(batches)
        except BaseException:
            stream.abandon()
            raise
        response = resumable_answer(chain([first], batches), framing, answer.failure, records.end, stream.close)
        response.let_pass(StreamFastPath(stream, stats, lambda events: framing.frames(records.records_of_all(events))))
        response.headers["Content-Location"] = address(stream_id)
        return response

    def keep(self, id: str, recipe: bytes, keeping: Keeping, began: int) -> Keep:
        """Return how a stream of the request's key is kept. Raises BadRequest where this server keeps none."""
        most = self._settings.resume_seconds
        if not most:
            raise BadRequest("this server keeps no streams (VLLM_WSGI_RESUME_SECONDS is 0)")
        return Keep(
            id,
            context().key.caller.name,
            recipe,
            min(keeping.seconds or most, most),
            keeping.background,
            began,
            self._settings.resume_streams,
            self._settings.resume_bytes,
        )

    def resume(self, id: str) -> Response:
        """Send the rest after the client's cursor. Raises ResponseNotFound, StreamGone, BadRequest and Unavailable."""
        is_own = is_stream_id_of(context().key, id)
        # A browser that comes back names the last event that it got, at the address that it began with.
        cursor = Cursor.parse(request.headers.get("Last-Event-ID") or request.args.get("after", ""), id)
        if cursor.at_end and is_own:
            # Ends the retries of an EventSource (WHATWG HTML §9.2.3).
            return empty_response(204)
        chosen = negotiate(
            None, request.args.get("stream_type"), request.args.get("alt"), request.headers.get("Accept", "")
        )
        try:
            refuse_while_draining()
            stream = self._attached(id, is_own)
        except Unavailable:
            # A client that reads events over POST comes back after a 503, too, and may stop after a stream that ends.
            if chosen is SSE and is_own and request.method != "POST":
                return _come_again()
            raise
        return self._rest(stream, chosen, cursor)

    def end(self, id: str) -> Response:
        """End a stream; the same answer for one that has ended. Raises ResponseNotFound."""
        is_own = is_stream_id_of(context().key, id)
        try:
            self._client.end_stream(id, context().key.caller.name, _settles(is_own))
        except ResponseNotFound:
            if not is_own:
                raise
        return empty_response(204)

    def listed(self) -> Response:
        """List the streams of the request's key. Raises HTTPRefusal (404) where there are no keys."""
        key = context().key
        if not key.digest:
            raise HTTPRefusal("this server has no keys, so it can't list the streams of a key", status=404)
        states = self._client.streams(key.caller.name)
        streams = [
            {"id": each.stream, "url": address(each.stream), "model": each.model, "state": each.state,
             "tokens": each.tokens, "background": each.background, "expires_at": each.expires_at}
            for each in states
        ]  # fmt: skip
        return json_response({"streams": streams})

    def _check(self, requests: list[Request], chosen: Framing | None, keeping: Keeping) -> None:
        if chosen is None and not keeping.background:
            raise BadRequest("resumable needs a stream: set stream to true")
        if sum(each.n for each in requests) > MAX_ANSWERS:
            raise BadRequest(f"a resumable request may have {MAX_ANSWERS} answers at most")

    def _accepted(self, id: str) -> Response:
        key, url = context().key, address(id)
        link = f"{url}?t={sign_link(key, id)}" if key.digest else url
        response = json_response({"id": id, "url": url, "link": link}, 202)
        response.headers["Content-Location"] = url
        return response

    def _attached(self, id: str, is_own: bool) -> AttachedStream:
        stream = self._client.attach(id, context().key.caller.name, presence(), _settles(is_own))
        try:
            stream.open()
            return stream
        except ResponseNotFound:
            stream.close()
            raise stream_gone() if is_own else stream_not_found() from None
        except BaseException:
            stream.close()
            raise

    def _rest(self, stream: AttachedStream, chosen: Framing | None, cursor: Cursor) -> Response:
        try:
            recipe = read_recipe(stream.head.recipe)
            if recipe.responses is not None:
                raise ResponseNotFound(f"the stream is a response: {address(cursor.stream)} has it")
        except BaseException:
            stream.close()
            raise
        context().stats.model = recipe.call.model
        kind = KINDS[recipe.kind]
        framing = (chosen or NDJSON) if kind.is_ollama else _openais(chosen)
        answer = kind.answer(recipe.call, stream.head.began)
        records = KeptRecords(answer, cursor, stream.head.answers, not framing.terminator)
        batches = records.batches(context().stats.pass_on(stream.batches()))
        response = resumable_answer(batches, CursorFraming(framing), answer.failure, records.end, stream.close)
        response.headers["Content-Location"] = address(cursor.stream)
        response.vary.add("Accept")
        return response


def address(id: str) -> str:
    """Return the path of a stream, or of a response, under the prefix of the current request."""
    place = f"{RESPONSES if id.startswith('resp_') else STREAMS}/{id}"
    route = context().route
    path = "" if route is None else route.path.replace("<id>", (request.view_args or {}).get("id", ""))
    prefix = f"{request.script_root}{request.path[: len(request.path) - len(path)]}".strip("/")
    return f"/{prefix}{place}" if prefix else place


def _check_located(answer: Answer, batches: Iterator[list[Event]]) -> None:
    """Read a stream to its end, without making its records. Raises BadRequest for a model that only embeds."""
    for batch in batches:
        for event in batch:
            if type(event) is Located:
                answer.located(event)


def _settles(is_own: bool) -> float | None:
    return SETTLED_SECONDS if is_own else None


def _openais(chosen: Framing | None) -> Framing:
    """Return OpenAI's framing, unless the client names NDJSON."""
    names_ndjson = "ndjson" in request.headers.get("Accept", "") or "ndjson" in request.args.get("stream_type", "")
    return NDJSON if chosen is NDJSON and names_ndjson else SSE_WITH_DONE


def _come_again() -> Response:
    """Return a stream that ends at once: an EventSource comes back to it, which it does not after a 503."""
    return Response(RETRY, content_type=SSE.media_type, headers=STREAM_HEADERS)
