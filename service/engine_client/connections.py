"""The sockets of this process to the engine's processes, and the threads that serve all requests together.

In: the path of a Unix socket. Out: a Connection, which sends commands and puts each event into its request's inbox.
Another transport is another module beside this one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time

from ..errors import BadRequest, EngineGone
from ..protocol.commands import Cancel, Command
from ..protocol.events import PROTOCOL, Delta, Event, Failed, Hello
from ..protocol.wire import UNFIT, Unpacker, decode_events, decode_hello, pack, salvage_events
from .disconnect import Watch
from .inbox import Inbox
from .per_process import PerProcess
from .timer import Timer

logger = logging.getLogger("vllm_wsgi.queue")

CONNECT_SECONDS = 5.0
# The least time for an own attempt, after a thread has waited for the attempt of another one that failed.
LAST_TRY_SECONDS = 0.1

RETRY_AFTER_SECONDS = 2
# Ollama's text for a runner that died (`llm/server.go`).
ENGINE_GONE = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check the server's logs for details"
)

_ids = itertools.count(1)


def new_id() -> int:
    """Return a number for a command that no other command of this process has."""
    return next(_ids)


class Connection:
    """One socket to an engine process, shared by every request of this web worker."""

    def __init__(self, path: str, seconds: float) -> None:
        """Connect and read the greeting. Raises EngineGone after `seconds` at the latest."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(path)
            self._unpacker = Unpacker()
            self._check_greeting()
        except OSError as error:
            self._socket.close()
            raise EngineGone(f"the engine can't be reached: {error.strerror or error}", RETRY_AFTER_SECONDS) from None
        except EngineGone:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._sending = threading.Lock()
        self._inboxes: dict[int, Inbox] = {}
        self.closed = False
        threading.Thread(target=self._read, name=f"queue {path}", daemon=True).start()

    def send(self, command: Command, inbox: Inbox | None = None) -> None:
        """Send a command; its events go to `inbox` until `forget`. Raises EngineGone and BadRequest."""
        try:
            frame = pack(command)
        except UNFIT as error:
            raise BadRequest(f"a value in the request can't be encoded: {error}") from None
        if inbox is not None:
            self._inboxes[command.id] = inbox
        try:
            with self._sending:
                # gevent's `sendall` first asks for the size of the send buffer, each time.
                sent = self._socket.send(frame)
                if sent < len(frame):
                    self._socket.sendall(memoryview(frame)[sent:])
        except OSError:
            self.closed = True
        if self.closed:
            raise EngineGone(ENGINE_GONE, RETRY_AFTER_SECONDS)

    def forget(self, id: int) -> None:
        """Drop the events that still come for this command."""
        self._inboxes.pop(id, None)

    def _check_greeting(self) -> None:
        """Read the engine's Hello, which it sends first. Raises OSError and EngineGone."""
        try:
            while not (payloads := self._unpacker.feed(self._receive())):
                pass
            first, *others = payloads
            (hello,) = decode_hello(first)
        except ValueError:
            raise ConnectionError("it is not an engine of this project") from None
        check_protocol(hello)
        if others:
            raise ConnectionError("it sent more than its greeting")

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
        """Cancel a generation whose client does not read: its own thread may never look at it again."""
        self.forget(id)
        logger.warning("request %s is cancelled: its client reads too slowly", inbox.request_id or id)
        inbox.fail(Failed(id, "ClientTooSlow", "the answer was cut off: its client reads too slowly"))
        with contextlib.suppress(EngineGone):
            self.send(Cancel(id))

    def _decoded(self, payload: bytes) -> list[Event]:
        """Return the events of a message. One that can't be decoded fails its own request, which is cancelled."""
        try:
            return decode_events(payload)
        except UNFIT as error:
            logger.error("an answer of the engine can't be read: %s", error)
        events, failures = salvage_events(payload)
        for failed in failures:
            with contextlib.suppress(EngineGone):
                self.send(Cancel(failed.id))
        return [*events, *failures]

    def _read(self) -> None:
        try:
            while True:
                for payload in self._unpacker.feed(self._receive()):
                    for event in self._decoded(payload):
                        self._deliver(event)
        except OSError:
            pass
        except Exception:
            logger.exception("reading from the engine failed; its connection is closed")
        self.closed = True
        self._socket.close()
        for asked, inbox in list(self._inboxes.items()):
            inbox.put(Failed(asked, "EngineGone", ENGINE_GONE, RETRY_AFTER_SECONDS))


class Connections:
    """The connections of this process by path, with the timer and the watch that their requests share."""

    def __init__(self, control_path: str) -> None:
        """`control_path` is the engine host's socket. Nothing connects yet."""
        self._control_path = control_path
        self._connections: PerProcess[dict[str, Connection]] = PerProcess(dict)
        # One lock a path: an engine that hangs must not delay requests for another one.
        self._connecting: PerProcess[dict[str, threading.Lock]] = PerProcess(dict)
        self._watch = PerProcess(Watch)
        self._timer = PerProcess(Timer)

    def control(self, seconds: float = CONNECT_SECONDS) -> Connection:
        """Return the connection to the engine host. Raises EngineGone after `seconds` at the latest."""
        return self.connection(self._control_path, seconds)

    def connection(self, path: str, seconds: float = CONNECT_SECONDS) -> Connection:
        """Return the connection to the engine process at `path`. Raises EngineGone after `seconds` at the latest."""
        connection = self._connections.get().get(path)
        if connection is None or connection.closed:
            connection = self._connect(path, time.monotonic() + seconds)
        return connection

    def engines(self) -> list[str]:
        """Return the data sockets to which this process has a connection."""
        connections = self._connections.get()
        return [path for path, each in list(connections.items()) if path != self._control_path and not each.closed]

    def watch(self) -> Watch:
        """Return the watch over clients' sockets."""
        return self._watch.get()

    def timer(self) -> Timer:
        """Return the timer."""
        return self._timer.get()

    def _connect(self, path: str, due: float) -> Connection:
        """Connect in one thread while the others wait, none of them longer than an attempt of its own would take."""
        connections = self._connections.get()
        connecting = self._connecting.get().setdefault(path, threading.Lock())
        if not connecting.acquire(timeout=max(0.0, due - time.monotonic())):
            raise EngineGone("the engine can't be reached: timed out", RETRY_AFTER_SECONDS)
        try:
            connection = connections.get(path)
            if connection is None or connection.closed:
                self._drop_closed(but=path)
                left = max(LAST_TRY_SECONDS, due - time.monotonic())
                connection = connections[path] = Connection(path, left)
            return connection
        finally:
            connecting.release()

    def _drop_closed(self, but: str) -> None:
        connections, connecting = self._connections.get(), self._connecting.get()
        for path in [path for path, each in list(connections.items()) if each.closed and path != but]:
            connections.pop(path, None)
            connecting.pop(path, None)


def check_protocol(hello: Hello) -> None:
    """Raise EngineGone when the engine uses another protocol than we; the message says which side to restart."""
    if hello.protocol != PROTOCOL:
        older = "engine host" if hello.protocol < PROTOCOL else "web tier"
        raise EngineGone(
            f"the engine uses protocol {hello.protocol} of the queue and the web tier protocol {PROTOCOL}: "
            f"install the same version of both, and restart the {older}, which is older",
            RETRY_AFTER_SECONDS,
        )
