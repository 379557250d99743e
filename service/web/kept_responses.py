"""OpenAI's responses in the background: they are generated without a reader, kept by the engine, and then stored.

In: a parsed body, or the id of a response. Out: the response so far, or its events.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

from flask import Response

from ..dialects.answer import Record
from ..dialects.keeping import Keeping
from ..dialects.openai.responses_answer import ResponsesAnswer, rest_of
from ..dialects.openai.responses_request import ResponsesCall
from ..engine_client.client import Client
from ..engine_client.disconnect import Presence
from ..engine_client.guarded_stream import GuardedStream
from ..engine_client.kept_search import AttachedStream
from ..errors import ResponseNotFound, ServiceError
from ..protocol.events import Event
from ..protocol.request import Request
from .context import context, presence
from .framing import SSE_NAMED
from .http_responses import json_response, stream_answer
from .kept_answers import now, read_recipe, responses_recipe
from .stream_keeper import StreamKeeper


class BackgroundResponses:
    """The responses in the background of the request's key."""

    def __init__(self, client: Client, keeper: StreamKeeper, heartbeat: float) -> None:
        """`heartbeat` is in seconds."""
        self._client = client
        self._keeper = keeper
        self._heartbeat = heartbeat

    def begin(self, call: ResponsesCall, requests: list[Request]) -> Response:
        """Begin a response, and send it as it is now, or its events. Raises the ServiceError of one refused at once."""
        key, began = secrets.token_hex(12), now()
        answer = self._responses_answer(call, key, began)
        keep = self._keeper.keep(f"resp_{key}", responses_recipe(call), Keeping(background=True), began)
        stream = self._client.keep(requests, Presence(), None, keep)

        def consume(batches: Iterator[list[Event]]) -> None:
            # The last record is made when the response has been stored.
            deque(answer.records(batches), maxlen=0)

        stream.run_in_background(consume)
        # The model may have to be loaded first, so no engine may know of the response yet.
        begun = self._responses_answer(call, key, began)
        return self._begun(f"resp_{key}", begun, stream) if call.stream else json_response(begun.response("queued"))

    def _begun(self, id: str, answer: ResponsesAnswer, begun: GuardedStream) -> Response:
        """Send the first events, and the others as soon as the engine has accepted the response."""
        stream = self._attach(id)

        def batches() -> Iterator[list[Event]]:
            while not begun.is_accepted(self._heartbeat):
                yield []
            stream.open()
            yield from stream.batches()

        first = list(answer.begin())
        records = chain([first], answer.records(context().stats.pass_on(batches())))
        return stream_answer(stream, records, SSE_NAMED, answer.failure)

    def events(self, id: str, after: int = -1) -> Response:
        """Send the events that follow the one with the number `after`, and then live. Raises ResponseNotFound."""
        stream, answer = self._attached(id, follow=True)
        batches = answer.records(context().stats.pass_on(stream.batches()))
        return stream_answer(stream, _rest(batches, after), SSE_NAMED, answer.failure)

    def snapshot(self, id: str) -> Record:
        """Return the response as it is now. Raises ResponseNotFound."""
        stream, answer = self._attached(id, follow=False)
        try:
            deque(answer.records(stream.batches()), maxlen=0)
        except ServiceError as error:
            is_cancelled = stream.head.state == "cancelled"
            return answer.response("cancelled") if is_cancelled else answer.response("failed", error)
        finally:
            stream.close()
        return answer.response("in_progress" if answer.has_begun else "queued")

    def input(self, id: str) -> list[Record]:
        """Return the items that the response answers. Raises ResponseNotFound."""
        stream, answer = self._attached(id, follow=False)
        stream.close()
        return answer.input()

    def cancel(self, id: str) -> Record:
        """End the generation, and return the response. Raises ResponseNotFound."""
        self._end(id, forget=False)
        return self.snapshot(id)

    def delete(self, id: str) -> None:
        """Delete a response, finished or not. Raises ResponseNotFound."""
        owner = context().key.caller.name
        try:
            self._client.drop_response(owner, id)
        except ResponseNotFound:
            # It runs, or it has failed or was cancelled.
            self._end(id, forget=True)
            return
        with suppress(ResponseNotFound):
            # The engine may still keep it. A response that never ran in the background is not looked for any longer.
            self._client.end_stream(id, owner, None)

    def _end(self, id: str, forget: bool) -> None:
        try:
            self._client.end_stream(id, context().key.caller.name, 0.0, forget)
        except ResponseNotFound:
            raise _not_found(id) from None

    def _attached(self, id: str, follow: bool) -> tuple[AttachedStream, ResponsesAnswer]:
        stream = self._attach(id)
        try:
            call = read_recipe(stream.open(follow).recipe).responses
        except ResponseNotFound:
            stream.close()
            raise _not_found(id) from None
        except BaseException:
            stream.close()
            raise
        if call is None:
            stream.close()
            raise _not_found(id)
        context().stats.model = call.model
        return stream, self._responses_answer(call, id.rpartition("_")[2], stream.head.began)

    def _attach(self, id: str) -> AttachedStream:
        return self._client.attach(id, context().key.caller.name, presence(), 0.0)

    def _responses_answer(self, call: ResponsesCall, key: str, began: int) -> ResponsesAnswer:
        """Return the maker of the records. Each reader of the end stores it: the first web worker may have died."""
        keep = partial(self._client.store_response, context().key.caller.name)
        return ResponsesAnswer(call, key, lambda: began / 1e9, keep)


def _rest(batches: Iterator[list[Record]], after: int) -> Iterator[list[Record]]:
    for batch in batches:
        rest = list(rest_of(batch, after))
        if rest or not batch:
            yield rest


def _not_found(id: str) -> ResponseNotFound:
    return ResponseNotFound(f"Response with id '{id}' not found.")
