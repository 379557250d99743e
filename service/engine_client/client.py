"""The verbs of the queue: the questions of a web worker to the engine host and to the engine workers.

In: requests with their caller. Out: answers, streams of event batches, or a ServiceError.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ..errors import ServiceError, Unavailable
from ..protocol.commands import (
    Check,
    Command,
    Copy,
    Count,
    Create,
    Delete,
    DropBlob,
    DropResponse,
    FetchResponse,
    FindBlob,
    ListLoaded,
    ListModels,
    Measure,
    Pull,
    PutBlob,
    RequestOutcome,
    Restart,
    ShowModel,
    StoreResponse,
    Unload,
)
from ..protocol.events import (
    Blob,
    Checked,
    Done,
    Loaded,
    Located,
    Measured,
    Models,
    Progress,
    Shown,
    StoredResponse,
    Unloaded,
    Vectors,
)
from ..protocol.kept import Keep, KeptState
from ..protocol.model_info import LoadedModel, ModelInfo, Recipe
from ..protocol.request import Caller, EmbedRequest, Request
from ..transport.connect import WORKER_HANGS_SECONDS
from .connections import CONNECT_SECONDS, RETRY_AFTER_SECONDS, Connections, new_id
from .disconnect import Presence
from .embedding import EmbeddingExchange
from .exchange import E, Exchange, Job, Times, expect
from .guarded_stream import GuardedStream
from .inbox import Inbox
from .kept_search import AttachedStream, KeptSearch, end_stream, list_streams
from .observation import Observation
from .stream import Stream, StreamOrder

# All in seconds. The host answers questions about models from memory; one that doesn't answer is gone.
ANSWER_SECONDS = 10.0
# A load balancer asks every few seconds, and waits about as long.
CHECK_SECONDS = 2.0
# The host hashes files and syncs them to disk before it answers.
EDIT_SECONDS = 120.0
# An engine's processes get up to 20 seconds to exit.
UNLOAD_SECONDS = 60.0


class Client:
    """The engine host, as one process of the web tier uses it. Nothing connects before the first question.

    A verb that waits raises EngineGone when the host can't be reached, and Unavailable when it does not answer in
    time, besides the errors that its docstring names. Streams and jobs raise their errors while they are iterated.
    """

    def __init__(
        self,
        control: str,
        heartbeat: float,
        deadline: float = 0.0,
        moves: int = 0,
        tls: str = "",
        hangs_seconds: float = WORKER_HANGS_SECONDS,
    ) -> None:
        """`control` is the engine host's socket, `tls` the directory of the certificates. The times are in seconds.

        A stream yields an empty batch after `heartbeat` without an event. A generation or an embedding may take
        `deadline` to its end; no limit when 0. A stream may lose its engine `moves` times and continue on another one.
        An engine worker on this machine hangs after `hangs_seconds` without a sign of life, if its host hangs, too.
        """
        self.connections = Connections(control, tls, hangs_seconds)
        self._times = Times(heartbeat, deadline or math.inf)
        self._moves = moves

    def submit(self, requests: list[Request], presence: Presence, keep_alive: float | None = None) -> Stream:
        """Return a stream of one generation, or of several; nothing is sent before its batches are iterated.

        All requests name one model and one caller. `keep_alive` is in seconds.
        """
        return Stream(self.connections, self._times, presence, StreamOrder(requests, keep_alive, self._moves))

    def keep(self, requests: list[Request], presence: Presence, keep_alive: float | None, keep: Keep) -> GuardedStream:
        """Return a stream as `submit` does, which its engine worker keeps for clients that come back."""
        order = StreamOrder(requests, keep_alive, self._moves)
        return GuardedStream(self.connections, self._times, presence, order, keep)

    def attach(self, stream: str, owner: str, presence: Presence, settles: float | None) -> AttachedStream:
        """Return a reader of a kept stream. `settles` is a KeptSearch's."""
        return AttachedStream(self.connections, self._times, presence, stream, owner, settles)

    def end_stream(self, stream: str, owner: str, settles: float | None, forget: bool = True) -> None:
        """End a kept stream; without `forget` it can still be read. `settles` is a KeptSearch's.

        Raises ResponseNotFound.
        """
        end_stream(KeptSearch(self.connections, self._times, Presence(), settles), stream, owner, forget)

    def streams(self, owner: str) -> list[KeptState]:
        """Return the streams that are kept for an owner."""
        return list_streams(KeptSearch(self.connections, self._times, Presence(), None), owner)

    def embed(
        self, request: EmbedRequest, presence: Presence, keep_alive: float | None = None
    ) -> tuple[Located, Vectors]:
        """Wait until every input is embedded, and return the vectors of all of them in one event.

        Raises ModelNotFound, Unsupported for a model that does not embed, BadRequest for an input that is too long,
        ServerBusy, TooManyRequests, ClientGone and DeadlineExceeded.
        """
        embedding = EmbeddingExchange(self.connections, self._times, presence, request, keep_alive, self._moves)
        with contextlib.closing(embedding):
            return embedding.run()

    def load(self, model: str, presence: Presence, caller: Caller, keep_alive: float | None = None) -> Located:
        """Wait until the model is loaded. Raises ModelNotFound, ServerBusy, ClientGone and DeadlineExceeded."""
        with Exchange(self.connections, self._times, presence, caller.name) as exchange:
            return exchange.located(model, keep_alive, submits=0)

    def unload(self, model: str) -> None:
        """Wait until the model is unloaded. Raises ModelNotFound."""
        self._ask(lambda id: Unload(id, model), Unloaded, UNLOAD_SECONDS)

    def restart(self, model: str, seconds: float | None, may_pause: bool) -> Iterator[str]:
        """Restart the engine workers of a model, or of all with an empty name. Yield sentences about the progress."""
        job = Job(self.connections, self._times, Presence(), lambda id: Restart(id, model, seconds, may_pause))
        for batch in job.batches():
            yield from (event.status for event in batch if isinstance(event, Progress))

    def models(self) -> list[ModelInfo]:
        """Return every model that is served, loaded or not, without its texts."""
        return self._ask(ListModels, Models).models

    def loaded(self) -> list[LoadedModel]:
        """Return the models that are loaded or being loaded."""
        return self.status().models

    def status(self) -> Loaded:
        """Return the models that are loaded, and those that are in the store and not served."""
        return self._ask(ListLoaded, Loaded)

    def show(self, model: str) -> ModelInfo:
        """Return the description of a model. Raises ModelNotFound, and BadRequest for an invalid name."""
        return self._ask(lambda id: ShowModel(id, model), Models).models[0]

    def show_verbose(self, model: str) -> Shown:
        """Return the description with tensors and vocabulary. Raises as `show` does."""
        return self._ask(lambda id: ShowModel(id, model, verbose=True), Shown, EDIT_SECONDS)

    def pull(self, model: str, presence: Presence) -> Job:
        """Return a job that downloads a model's files; nothing is sent before its batches are iterated."""
        return Job(self.connections, self._times, presence, lambda id: Pull(id, model))

    def create(self, model: str, recipe: Recipe, presence: Presence) -> Job:
        """Return a job that makes a model; nothing is sent before its batches are iterated."""
        return Job(self.connections, self._times, presence, lambda id: Create(id, model, recipe))

    def observe(self, after: str, seconds: float, presence: Presence) -> Observation:
        """Return the server's events after the one with the mark `after`; without a mark, of the last `seconds`."""
        return Observation(self.connections, self._times, presence, after, seconds)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ModelNotFound, Forbidden for a declared destination, and StoreFailure."""
        self._ask(lambda id: Copy(id, source, destination), Done, EDIT_SECONDS)

    def delete(self, model: str) -> None:
        """Delete a model. Raises ModelNotFound, Forbidden for a declared model, and StoreFailure."""
        self._ask(lambda id: Delete(id, model), Done, EDIT_SECONDS)

    def has_blob(self, digest: str) -> bool:
        """Return whether the blob with this digest is there, whole. Raises BadRequest for an invalid digest."""
        return self._ask(lambda id: FindBlob(id, digest), Blob).present

    def put_blob(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Upload a blob in chunks, each when the one before is on disk.

        Raises BadRequest when the digest is not that of the chunks, StoreFailure, and the errors of iterating `chunks`.
        """
        upload = uuid.uuid4().hex
        try:
            for chunk in chunks:
                self._put_chunk(upload, digest, chunk, last=False)
            self._put_chunk(upload, digest, b"", last=True)
        except BaseException:
            with contextlib.suppress(ServiceError):
                self._ask(lambda id: DropBlob(id, upload), Done)
            raise

    def _put_chunk(self, upload: str, digest: str, data: bytes, last: bool) -> None:
        self._ask(lambda id: PutBlob(id, upload, digest, data, last), Blob, EDIT_SECONDS)

    def store_response(self, owner: str, response: str, record: Any) -> None:
        """Store a response as JSON, and return when it is on disk. Raises PayloadTooLarge and StoreFailure."""
        data = msgspec.json.encode(record)
        self._ask(lambda id: StoreResponse(id, response, owner, data), Done, EDIT_SECONDS)

    def fetch_response(self, owner: str, response: str) -> bytes:
        """Return the JSON that the owner has stored under this id, undecoded. Raises ResponseNotFound."""
        return self._ask(lambda id: FetchResponse(id, response, owner), StoredResponse, EDIT_SECONDS).data

    def drop_response(self, owner: str, response: str) -> None:
        """Delete the response that the owner has stored under this id. Raises ResponseNotFound."""
        self._ask(lambda id: DropResponse(id, response, owner), Done, EDIT_SECONDS)

    def trouble(self) -> str:
        """Return why the engine host can serve no requests now; empty when it can."""
        return self._ask(Check, Checked, CHECK_SECONDS).trouble

    def known_models(self) -> list[str]:
        """Return the models that can be asked although the engine host can't be reached; on this machine none."""
        locations = self.connections.locations()
        return locations.models() if locations.is_host_away else []

    def metrics(self) -> list[str]:
        """Return the metrics of the host and of each engine that answers in time, in Prometheus' text format."""
        host = self._ask(Measure, Measured, CHECK_SECONDS)
        texts = [host.text]
        for path in host.sockets:
            with contextlib.suppress(ServiceError):
                texts.append(self._ask(Measure, Measured, CHECK_SECONDS, path).text)
        return texts

    def count(self, ended: list[RequestOutcome]) -> None:
        """Report ended requests to the engine host. Raises EngineGone."""
        self.connections.control().send(Count(new_id(), ended))

    def _ask(
        self, command: Callable[[int], Command], kind: type[E], seconds: float = ANSWER_SECONDS, path: str = ""
    ) -> E:
        """Return the one answer of the engine host, or of the engine worker at `path`, within `seconds`."""
        inbox = Inbox(new_id())
        due = time.monotonic() + seconds
        patience = min(seconds, CONNECT_SECONDS)
        asked = self.connections.connection(path, patience) if path else self.connections.control(patience)
        try:
            asked.send(command(inbox.id), inbox)
            events = inbox.get(max(0.0, due - time.monotonic()))
        finally:
            asked.forget(inbox.id)
        if not events:
            raise Unavailable(f"the engine host has not answered within {seconds:g} s", RETRY_AFTER_SECONDS)
        return expect(events[0], kind)
