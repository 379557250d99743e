"""The web worker's end of the queue: a request goes in, an iterator of event batches comes out.

Importing this starts nothing. Sockets, threads and queues are looked up in their modules when they are used, so that
the same code runs in greenlets where gevent has patched and in threads elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from ..errors import EngineGone, ServiceError, Unavailable
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
    Shown,
    StoredResponse,
    Unloaded,
    Vectors,
)
from ..protocol.model_info import LoadedModel, ModelInfo, Recipe
from ..protocol.request import Caller, EmbedRequest, Request, Struct
from .connections import CONNECT_SECONDS, LAST_TRY_SECONDS, RETRY_AFTER_SECONDS, Connection, _ids
from .disconnect import Presence, Watch
from .exchange import Exchange, Job, Stream, _expect
from .inbox import Inbox
from .timer import Timer

E = TypeVar("E", bound=Struct)

# The host answers questions about models from memory; a host that doesn't is gone.
ANSWER_SECONDS = 10.0
# A load balancer asks every few seconds, and waits about as long.
CHECK_SECONDS = 2.0
# Files are hashed and made safe on disk meanwhile.
EDIT_SECONDS = 120.0
# An engine's processes get up to 20 seconds to end in.
UNLOAD_SECONDS = 60.0


class Client:
    """All connections of this process; a child after a fork begins anew."""

    def __init__(self, control_path: str, heartbeat: float, deadline: float = 0.0, moves: int = 0) -> None:
        """`control_path` is the engine host's socket, `heartbeat` the seconds after which silence is told.

        `deadline` is how many seconds a generation or an embedding may take to its end; 0: any number. `moves`
        is how often a stream may lose its engine and continue on another one.
        """
        self._control_path = control_path
        self.heartbeat = heartbeat
        self.deadline = deadline
        self.moves = moves
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._connections: dict[str, Connection] = {}
        # By path: an engine that hangs holds up nobody who asks another one.
        self._connecting: dict[str, threading.Lock] = {}
        self._starting = threading.Lock()
        self._watch: Watch | None = None
        self._timer: Timer | None = None

    def _own(self) -> None:
        """Threads and connections stay with the parent in a fork."""
        if self._pid != os.getpid():
            self._reset()

    def submit(self, requests: list[Request], presence: Presence, keep_alive: float | None = None) -> Stream:
        """Begin one generation, or several by one model; nothing is sent before the batches are iterated.

        All requests name one model and one caller. `keep_alive` is in seconds.
        """
        return Stream(self, requests, presence, keep_alive)

    def embed(
        self, request: EmbedRequest, presence: Presence, keep_alive: float | None = None
    ) -> tuple[Located, Vectors]:
        """Wait until every input is embedded, and return the vectors of all of them in one event."""
        with Exchange(self, presence, request.caller.name) as exchange:
            return exchange.located(request.model, keep_alive, submits=1), exchange.embed(request)

    def load(self, model: str, presence: Presence, caller: Caller, keep_alive: float | None = None) -> Located:
        """Wait until the model is loaded."""
        with Exchange(self, presence, caller.name) as exchange:
            return exchange.located(model, keep_alive, submits=0)

    def unload(self, model: str) -> None:
        """Wait until the model is gone."""
        self._ask(lambda id: Unload(id, model), Unloaded, UNLOAD_SECONDS)

    def models(self) -> list[ModelInfo]:
        return self._ask(ListModels, Models).models

    def loaded(self) -> list[LoadedModel]:
        return self._ask(ListLoaded, Loaded).models

    def show(self, model: str) -> ModelInfo:
        return self._ask(lambda id: ShowModel(id, model), Models).models[0]

    def show_verbose(self, model: str) -> Shown:
        return self._ask(lambda id: ShowModel(id, model, verbose=True), Shown, EDIT_SECONDS)

    def pull(self, model: str, presence: Presence) -> Job:
        """Begin to fetch a model's files; nothing is sent before the batches are iterated."""
        return Job(self, lambda id: Pull(id, model), presence)

    def create(self, model: str, recipe: Recipe, presence: Presence) -> Job:
        """Begin to make a model; nothing is sent before the batches are iterated."""
        return Job(self, lambda id: Create(id, model, recipe), presence)

    def copy(self, source: str, destination: str) -> None:
        self._ask(lambda id: Copy(id, source, destination), Done, EDIT_SECONDS)

    def delete(self, model: str) -> None:
        self._ask(lambda id: Delete(id, model), Done, EDIT_SECONDS)

    def has_blob(self, digest: str) -> bool:
        return self._ask(lambda id: FindBlob(id, digest), Blob).present

    def put_blob(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Upload a blob piece by piece, each when the one before is on disk. Raises what `chunks` raises."""
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
        """Keep what JSON can hold of a response under its id, and return when it is on disk."""
        data = msgspec.json.encode(record)
        self._ask(lambda id: StoreResponse(id, response, owner, data), Done, EDIT_SECONDS)

    def fetch_response(self, owner: str, response: str) -> Any:
        """What the owner has stored under that id; raises ResponseNotFound."""
        stored = self._ask(lambda id: FetchResponse(id, response, owner), StoredResponse, EDIT_SECONDS)
        return msgspec.json.decode(stored.data)

    def drop_response(self, owner: str, response: str) -> None:
        """Raises ResponseNotFound."""
        self._ask(lambda id: DropResponse(id, response, owner), Done, EDIT_SECONDS)

    def trouble(self) -> str:
        """Why the engine host wants no requests now; empty where it does."""
        return self._ask(Check, Checked, CHECK_SECONDS).trouble

    def metrics(self) -> list[str]:
        """In Prometheus' text format: the engine host's, and those of each engine that answers soon enough."""
        host = self._ask(Measure, Measured, CHECK_SECONDS)
        texts = [host.text]
        for path in host.sockets:
            with contextlib.suppress(ServiceError):
                texts.append(self._ask(Measure, Measured, CHECK_SECONDS, path).text)
        return texts

    def count(self, ended: list[RequestOutcome]) -> None:
        """Tell the engine host what has ended. Raises EngineGone."""
        self.control().send(Count(next(_ids), ended))

    def control(self) -> Connection:
        return self.connection(self._control_path)

    def connection(self, path: str, seconds: float = CONNECT_SECONDS) -> Connection:
        """The connection to the engine process at `path`; raises EngineGone, after `seconds` at the latest."""
        self._own()
        connection = self._connections.get(path)
        if connection is None or connection.closed:
            connection = self._connect(path, time.monotonic() + seconds)
        return connection

    def _connect(self, path: str, due: float) -> Connection:
        """One tries and the others wait for it, none of them for longer than it would try itself."""
        connecting = self._connecting.setdefault(path, threading.Lock())
        if not connecting.acquire(timeout=due - time.monotonic()):
            raise EngineGone("the engine can't be reached: timed out", RETRY_AFTER_SECONDS)
        try:
            connection = self._connections.get(path)
            if connection is None or connection.closed:
                for closed in [key for key, each in list(self._connections.items()) if each.closed and key != path]:
                    self._connections.pop(closed, None)
                    self._connecting.pop(closed, None)
                left = max(LAST_TRY_SECONDS, due - time.monotonic())
                connection = self._connections[path] = Connection(path, left)
            return connection
        finally:
            connecting.release()

    def watch(self) -> Watch:
        self._own()
        with self._starting:
            if self._watch is None:
                self._watch = Watch()
            return self._watch

    def timer(self) -> Timer:
        self._own()
        with self._starting:
            if self._timer is None:
                self._timer = Timer()
            return self._timer

    def _ask(
        self, command: Callable[[int], Command], kind: type[E], seconds: float = ANSWER_SECONDS, path: str = ""
    ) -> E:
        """One answer of the engine host, or of the engine worker at `path`, within so many seconds."""
        inbox = Inbox(next(_ids))
        due = time.monotonic() + seconds
        asked = self.connection(path or self._control_path, min(seconds, CONNECT_SECONDS))
        try:
            asked.send(command(inbox.id), inbox)
            events = inbox.get(max(0.0, due - time.monotonic()))
        finally:
            asked.forget(inbox.id)
        if not events:
            raise Unavailable("the engine host does not answer", RETRY_AFTER_SECONDS)
        return _expect(events[0], kind)
