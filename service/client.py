"""The web worker's end of the queue: a request goes in, an iterator of event batches comes out.

Importing this starts nothing. Sockets, threads and queues are looked up in their modules when they are used, so that
the same code runs in greenlets where gevent has patched and in threads elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from . import messages
from .alarm import Alarm
from .auth import key_of
from .disconnect import POLL_SECONDS, Watch, client_gone, client_socket
from .drain import GOING_DOWN, RETRY_SECONDS, drain
from .errors import BadRequest, ClientGone, DeadlineExceeded, Drained, EngineGone, ServiceError, Unavailable
from .inbox import Inbox
from .messages import (
    PROTOCOL,
    Blob,
    Cancel,
    Check,
    Checked,
    Command,
    Copy,
    Count,
    Create,
    Delete,
    Delta,
    Done,
    DropBlob,
    DropResponse,
    Embed,
    Embedded,
    EmbedRequest,
    Ended,
    Event,
    Failed,
    FetchResponse,
    FindBlob,
    Finished,
    Hello,
    ListLoaded,
    ListModels,
    Loaded,
    LoadedModel,
    Locate,
    Located,
    Measure,
    Measured,
    ModelInfo,
    Models,
    Pull,
    PutBlob,
    Recipe,
    Rendered,
    Request,
    ShowModel,
    Shown,
    StoredResponse,
    StoreResponse,
    Submit,
    Unload,
    Unloaded,
    Unpacker,
)

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
# For who has waited for another one's try to its end.
LAST_TRY_SECONDS = 0.1
# The host answers questions about models from memory; a host that doesn't is gone.
ANSWER_SECONDS = 10.0
# A load balancer asks every few seconds, and waits about as long.
CHECK_SECONDS = 2.0
# Files are hashed and made safe on disk meanwhile.
EDIT_SECONDS = 120.0
# An engine's processes get up to 20 seconds to end in.
UNLOAD_SECONDS = 60.0
RETRY_AFTER_SECONDS = 2
# Ollama's text for a runner that died (`llm/server.go`).
ENGINE_GONE = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check the server's logs for details"
)

_ids = itertools.count(1)

E = TypeVar("E", bound=messages.Struct)


class Connection:
    """One socket to an engine process, shared by every request of this web worker."""

    def __init__(self, path: str, seconds: float) -> None:
        """Made within `seconds`, or EngineGone is raised."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(path)
            self._unpacker = Unpacker()
            self._greet()
        except OSError as error:
            self._socket.close()
            raise EngineGone(f"the engine can't be reached: {error.strerror or error}", RETRY_AFTER_SECONDS) from None
        self._socket.settimeout(None)
        self._sending = threading.Lock()
        self._inboxes: dict[int, Inbox] = {}
        self.closed = False
        threading.Thread(target=self._read, name=f"queue {path}", daemon=True).start()

    def send(self, command: Command, inbox: Inbox | None = None) -> None:
        """Send a command; what it brings goes to `inbox` until `forget`. Raises EngineGone and BadRequest."""
        try:
            frame = messages.pack(command)
        except (OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise BadRequest(f"the request holds a value that can't be passed on: {error}") from None
        if inbox is not None:
            self._inboxes[command.id] = inbox
        try:
            with self._sending:
                # gevent's `sendall` asks for the size of the send buffer first, each time.
                sent = self._socket.send(frame)
                if sent < len(frame):
                    self._socket.sendall(memoryview(frame)[sent:])
        except OSError:
            self.closed = True
        if self.closed:
            raise EngineGone(ENGINE_GONE, RETRY_AFTER_SECONDS)

    def forget(self, id: int) -> None:
        self._inboxes.pop(id, None)

    def _greet(self) -> None:
        """The engine speaks first."""
        while not (payloads := self._unpacker.feed(self._receive())):
            pass
        hello = messages.decode_events(payloads.pop(0))[0]
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            raise ConnectionError(f"it speaks another protocol than {PROTOCOL}")
        if payloads:
            raise ConnectionError("it speaks out of turn")

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("it closed the connection")
        return data

    def _deliver(self, event: Event) -> None:
        inbox = self._inboxes.get(event.id)
        if inbox is None:
            return
        inbox.put(event)
        if inbox.stalls() and isinstance(event, Delta):
            self._give_up(event.id, inbox)

    def _give_up(self, id: int, inbox: Inbox) -> None:
        """Cancel a generation whose client does not read; nobody may ever come to do so in its stream."""
        self.forget(id)
        logger.warning("request %s is cancelled: its client reads too slowly", inbox.request_id or id)
        inbox.fail(Failed(id, "ClientTooSlow", "the answer was cut off: its client reads too slowly"))
        with contextlib.suppress(EngineGone):
            self.send(Cancel(id))

    def _read(self) -> None:
        try:
            while True:
                for payload in self._unpacker.feed(self._receive()):
                    for event in messages.decode_events(payload):
                        self._deliver(event)
        except OSError:
            pass
        except Exception:
            logger.exception("the queue broke")
        self.closed = True
        self._socket.close()
        for asked, inbox in list(self._inboxes.items()):
            inbox.put(Failed(asked, "EngineGone", ENGINE_GONE, RETRY_AFTER_SECONDS))


class Client:
    """All connections of this process; a child after a fork begins anew."""

    def __init__(self, control_path: str, heartbeat: float, deadline: float = 0.0) -> None:
        """`control_path` is the engine host's socket, `heartbeat` the seconds after which silence is told.

        `deadline` is how many seconds a generation or an embedding may take to its end; 0: any number.
        """
        self._control_path = control_path
        self.heartbeat = heartbeat
        self.deadline = deadline
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._connections: dict[str, Connection] = {}
        # By path: an engine that hangs holds up nobody who asks another one.
        self._connecting: dict[str, threading.Lock] = {}
        self._starting = threading.Lock()
        self._watch: Watch | None = None
        self._alarm: Alarm | None = None

    def _own(self) -> None:
        """Threads and connections stay with the parent in a fork."""
        if self._pid != os.getpid():
            self._reset()

    def submit(self, requests: list[Request], environ: dict[str, Any], keep_alive: float | None = None) -> Stream:
        """Begin one generation, or several by one model; nothing is sent before the batches are iterated.

        `keep_alive` is in seconds.
        """
        caller = key_of(environ).caller
        theirs = [msgspec.structs.replace(request, caller=caller) for request in requests]
        return Stream(self, theirs, environ, keep_alive)

    def embed(
        self, request: EmbedRequest, environ: dict[str, Any], keep_alive: float | None = None
    ) -> tuple[Located, Embedded]:
        """Wait until every input is embedded; one Embedded for all of them."""
        theirs = msgspec.structs.replace(request, caller=key_of(environ).caller)
        with Exchange(self, environ) as exchange:
            return exchange.located(request.model, keep_alive, submits=1), exchange.embed(theirs)

    def load(self, model: str, environ: dict[str, Any], keep_alive: float | None = None) -> Located:
        """Wait until the model is loaded."""
        with Exchange(self, environ) as exchange:
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

    def pull(self, model: str, environ: dict[str, Any]) -> Job:
        """Begin to fetch a model's files; nothing is sent before the batches are iterated."""
        return Job(self, lambda id: Pull(id, model), environ)

    def create(self, model: str, recipe: Recipe, environ: dict[str, Any]) -> Job:
        """Begin to make a model; nothing is sent before the batches are iterated."""
        return Job(self, lambda id: Create(id, model, recipe), environ)

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

    def count(self, ended: list[Ended]) -> None:
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

    def alarm(self) -> Alarm:
        self._own()
        with self._starting:
            if self._alarm is None:
                self._alarm = Alarm()
            return self._alarm

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


def _expect(event: Event, kind: type[E]) -> E:
    if isinstance(event, Failed):
        raise event.error()
    if not isinstance(event, kind):
        raise EngineGone(f"the engine answered {type(event).__name__} instead of {kind.__name__}")
    return event


class Exchange:
    """One client's dealings with the engine, one step at a time, and the client that may leave meanwhile."""

    def __init__(self, client: Client, environ: dict[str, Any]) -> None:
        self._client = client
        self._caller = key_of(environ).caller.name
        self._inbox = Inbox(next(_ids))
        self._asked: Connection | None = None
        # How many answers each command has still to bring.
        self._open: dict[int, int] = {}
        self.location: Located | None = None
        self._ends_at = time.monotonic() + (client.deadline or math.inf)
        self._gone = client_gone(environ)
        # After so long it looks up, if only to find that nothing has come.
        self._looks_up = min(client.heartbeat, math.inf if self._gone is None else POLL_SECONDS)
        self._inbox.rings_at = min(self._ends_at, time.monotonic() + self._looks_up)
        client.alarm().add(self._inbox)
        client_side = client_socket(environ)
        self._fd = -1 if client_side is None else client_side.fileno()
        if self._fd >= 0:
            client.watch().add(self._fd, self._inbox.client_left)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what has not ended yet. Idempotent."""
        left = list(self._open)
        self._answered()
        if self._asked is not None:
            with contextlib.suppress(ServiceError):
                for command in left:
                    self._asked.send(Cancel(command))
        if self._fd >= 0:
            self._client.watch().remove(self._fd)
            self._fd = -1

    def locate(self, model: str, keep_alive: float | None, submits: int) -> Iterator[list[Event]]:
        """Empty batches while the model loads, then one with its Located, which is the `location` from then on."""
        self._ask(self._client.control(), Locate(self._inbox.id, model, keep_alive, submits, self._caller))
        while not (events := self._wait()):
            yield []
        self._answered()
        self.location = _expect(events[0], Located)
        yield [self.location]

    def located(self, model: str, keep_alive: float | None, submits: int) -> Located:
        """Wait until the model is loaded; no matter how long."""
        deque(self.locate(model, keep_alive, submits), maxlen=0)
        assert self.location is not None
        return self.location

    def embed(self, request: EmbedRequest) -> Embedded:
        """Wait for the vectors of every input, from where the model has been located."""
        assert self.location is not None
        answer = Embedded(self._inbox.id, [], 0)
        self._ask(self._client.connection(self.location.socket), Embed(self._inbox.id, request))
        while len(answer.vectors) < len(request.inputs):
            for event in self._wait():
                if isinstance(event, Failed):
                    self._answered()
                part = _expect(event, Embedded)
                answer.vectors += part.vectors
                answer.prompt_tokens += part.prompt_tokens
        self._answered()
        return answer

    def _ask(self, connection: Connection, *commands: Command) -> None:
        self._asked = connection
        for command in commands:
            connection.send(command, self._inbox)
            self._open[command.id] = command.request.n if isinstance(command, Submit) else 1

    def _answered(self, *commands: int) -> None:
        """These, or all of them, have ended: nothing more is expected of them, and nothing left to cancel."""
        for command in commands or list(self._open):
            self._open.pop(command, None)
            if self._asked is not None:
                self._asked.forget(command)

    def _wait(self) -> list[Event]:
        """What has come; nothing when the heartbeat is due. Raises ClientGone, DeadlineExceeded and Drained."""
        now = time.monotonic()
        beats_at = now + self._client.heartbeat
        while True:
            ends_at = min(self._ends_at, drain.ends_at)
            self._inbox.rings_at = min(ends_at, beats_at, now + self._looks_up)
            events = [] if now >= ends_at else self._inbox.get()
            now = time.monotonic()
            if now >= ends_at:
                raise self._late()
            if events or now >= beats_at:
                return events
            if self._gone is not None and self._gone():
                raise ClientGone("the client has left")

    def _late(self) -> ServiceError:
        if drain.ends_at < self._ends_at:
            return Drained(GOING_DOWN, RETRY_SECONDS)
        return DeadlineExceeded(f"the request was not done within the {self._client.deadline:g} s that it may take")


class Stream(Exchange):
    """The answers to requests of one model. Iterating `batches` runs them; `close` cancels, once, what has not ended.

    The answers are counted through: those of the second request follow those of the first in their `index`.
    """

    def __init__(
        self, client: Client, requests: list[Request], environ: dict[str, Any], keep_alive: float | None
    ) -> None:
        super().__init__(client, environ)
        self._model = requests[0].model
        self._inbox.request_id = requests[0].request_id
        self._submits = [Submit(next(_ids), request) for request in requests]
        counts = [request.n for request in requests]
        self._first = {submit.id: sum(counts[:place]) for place, submit in enumerate(self._submits)}
        self._keep_alive = keep_alive

    def batches(self) -> Iterator[list[Event]]:
        """Located, deltas and a Finished for each answer, or one Rendered; an empty batch when the heartbeat is due.

        Ends after the last of these or raises a ServiceError, never both and never neither.
        """
        try:
            yield from self.locate(self._model, self._keep_alive, submits=len(self._submits))
            assert self.location is not None
            for submit in self._submits:
                submit.defaults = self.location.defaults
            self._ask(self._client.connection(self.location.socket), *self._submits)
            while self._open:
                events = self._wait()
                failed = self._take(events)
                if events or failed is None:
                    yield events
                if failed is not None:
                    raise failed.error()
        finally:
            self.close()

    def _take(self, events: list[Event]) -> Failed | None:
        """Count the answers through, up to the end of the last one or to a failure, and drop what follows."""
        for place, event in enumerate(events):
            if isinstance(event, Failed):
                self._answered(event.id)
                del events[place:]
                return event
            if isinstance(event, Delta | Finished):
                event.index += self._first[event.id]
            if isinstance(event, Finished | Rendered):
                self._open[event.id] -= 1
                if not self._open[event.id]:
                    self._answered(event.id)
            if not self._open:
                # An engine process that ends right after its last answer has not failed that one.
                del events[place + 1 :]
        return None


class Job(Exchange):
    """A pull or a creation. Iterating `batches` runs it; `close` gives it up, once, unless it has ended."""

    def __init__(self, client: Client, command: Callable[[int], Command], environ: dict[str, Any]) -> None:
        super().__init__(client, environ)
        # A model of many gigabytes comes when it comes.
        self._ends_at = math.inf
        self._command = command

    def batches(self) -> Iterator[list[Event]]:
        """Progress, and Done at the end; an empty batch each time the heartbeat is due. Raises ServiceError."""
        try:
            self._ask(self._client.control(), self._command(self._inbox.id))
            while self._open:
                events = self._wait()
                last = events[-1] if events else None
                if isinstance(last, Done | Failed):
                    self._answered()
                if isinstance(last, Failed):
                    if events[:-1]:
                        yield events[:-1]
                    raise last.error()
                yield events
        finally:
            self.close()
