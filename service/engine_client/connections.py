"""The sockets of this process to the engine's processes, and the threads that serve all requests together.

In: the address of an engine process. Out: a Connection, which sends commands and puts each event into its request's
inbox.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Optional

from ..errors import BadRequest, EngineGone, SettingsError
from ..protocol.commands import Cancel, Command
from ..protocol.events import PROTOCOL, Delta, Event, Failed, Hello
from ..protocol.joining import joined
from ..protocol.wire import UNFIT, Unpacker, decode_events, decode_hello, pack, salvage_events
from ..transport.address import TLS, Address, parse_address
from ..transport.connect import HANGS_SECONDS, SILENT_SECONDS, WORKER_HANGS_SECONDS, connect, left_until
from .disconnect import Watch
from .inbox import Inbox
from .locations import Locations
from .per_process import PerProcess
from .timer import Timer

logger = logging.getLogger("vllm_wsgi.queue")
IsWatched = Optional[Callable[[], bool]]

CONNECT_SECONDS = 5.0
# A thread whose wait for another thread's attempt was in vain has at least this long for its own. In seconds.
LAST_TRY_SECONDS = 0.1
# When silence is noticed this late, this process itself was stopped, and has not read what came meanwhile.
STOOD_STILL_SECONDS = 1.0

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

    def __init__(
        self, address: Address, seconds: float, tls: str = "", is_watched: IsWatched = None, hangs_seconds: float = 0.0
    ) -> None:
        """Connect and read the greeting. Raises EngineGone after `seconds` at the latest.

        `tls` is the directory of the certificates. The last two are for an engine worker on this machine, which hangs
        after `hangs_seconds` of silence. While its host answers (`is_watched`), the host decides that.
        """
        self._address = address
        self._is_watched, self._hangs_seconds = is_watched, hangs_seconds
        due = time.monotonic() + seconds
        try:
            self._socket = connect(address, seconds, tls)
        except (OSError, SettingsError) as error:
            raise _unreachable(error) from None
        try:
            self._unpacker = Unpacker()
            self._socket.settimeout(left_until(due))
            hello = self._check_greeting()
        except (OSError, EngineGone) as error:
            self._socket.close()
            raise error if isinstance(error, EngineGone) else _unreachable(error) from None
        self._silence = self._longest_silence() if hello.pulses else None
        self._socket.settimeout(self._silence)
        self._sending = threading.Lock()
        self._inboxes: dict[int, Inbox] = {}
        self.closed = False
        threading.Thread(target=self._read, name=f"queue {address}", daemon=True).start()

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
                while sent < len(frame):
                    sent += self._socket.send(memoryview(frame)[sent:])
        except OSError:
            # A part of the frame may have been sent, so nothing can follow it.
            self.closed = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self.closed:
            raise EngineGone(ENGINE_GONE, RETRY_AFTER_SECONDS)

    def forget(self, id: int) -> None:
        """Drop the events that still come for this command."""
        self._inboxes.pop(id, None)

    def _longest_silence(self) -> float:
        """Return after how many seconds without a byte the engine process is lost."""
        if not self._address.is_unix:
            return SILENT_SECONDS
        # The other end of a Unix socket can't vanish without closing it. It can hang.
        return HANGS_SECONDS if self._is_watched is None else self._hangs_seconds

    def _check_greeting(self) -> Hello:
        """Read the engine's Hello, which it sends first, and return it. Raises OSError and EngineGone."""
        try:
            while not (payloads := self._unpacker.feed(self._receive())):
                pass
            first, *others = payloads
            (hello,) = decode_hello(first)
        except ValueError:
            raise ConnectionError("it is not an engine of this project") from None
        except ConnectionResetError:
            # A server that refuses a certificate may close the connection without a reason.
            refused = ", or refuses this machine's certificate" if self._address.scheme == TLS else ""
            raise ConnectionError(f"it closed the connection{refused}") from None
        check_protocol(hello)
        if others:
            raise ConnectionError("it sent more than its greeting")
        return hello

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("it closed the connection")
        return data

    def _receive_next(self) -> bytes:
        """Return what comes next. Raises socket.timeout when the engine is silent for too long."""
        while True:
            began = time.monotonic()
            try:
                return self._receive()
            except socket.timeout:
                if self._silence is not None and time.monotonic() - began >= self._silence + STOOD_STILL_SECONDS:
                    continue
                if self._is_watched is None or not self._is_watched():
                    raise

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
        reason = ENGINE_GONE
        try:
            while True:
                payloads = self._unpacker.feed(self._receive_next())
                events = [event for payload in payloads for event in self._decoded(payload)]
                # Several messages have piled up, and their deltas cost as much as those of one when they are joined.
                for event in joined(events) if len(payloads) > 1 else events:
                    self._deliver(event)
        except socket.timeout:
            reason = f"the engine has sent nothing for {self._silence:g} s"
            logger.warning("%s is lost: it has sent nothing for %g s", self._address, self._silence)
        except OSError:
            pass
        except Exception:
            logger.exception("reading from the engine failed; its connection is closed")
        self.closed = True
        self._socket.close()
        for asked, inbox in list(self._inboxes.items()):
            inbox.put(Failed(asked, "EngineGone", reason, RETRY_AFTER_SECONDS))


class Connections:
    """The connections of this process by path, with the timer and the watch that their requests share."""

    def __init__(self, control: str, tls: str = "", hangs_seconds: float = WORKER_HANGS_SECONDS) -> None:
        """`control` is the address of the host's socket. Nothing connects yet. Raises BadRequest for no address."""
        self._control = control
        self._control_address = parse_address(control)
        self._tls, self._hangs_seconds = tls, hangs_seconds
        self._connections: PerProcess[dict[str, Connection]] = PerProcess(dict)
        # One lock a path: an engine that hangs must not delay requests for another one.
        self._connecting: PerProcess[dict[str, threading.Lock]] = PerProcess(dict)
        self._watch = PerProcess(Watch)
        self._timer = PerProcess(Timer)
        self._locations = PerProcess(lambda: Locations(self._control, self._is_open))

    def control(self, seconds: float = CONNECT_SECONDS) -> Connection:
        """Return the connection to the engine host. Raises EngineGone after `seconds` at the latest."""
        return self.connection(self._control, seconds)

    def connection(self, path: str, seconds: float = CONNECT_SECONDS) -> Connection:
        """Return the connection to the engine process at `path`. Raises EngineGone after `seconds` at the latest."""
        connection = self._connections.get().get(path)
        if connection is None or connection.closed:
            connection = self._connect(path, time.monotonic() + seconds)
        return connection

    def locations(self) -> Locations:
        """Return the last known locations of models."""
        return self._locations.get()

    def _is_open(self, path: str) -> bool:
        connection = self._connections.get().get(path)
        return connection is not None and not connection.closed

    def engines(self) -> list[str]:
        """Return the data sockets to which this process has a connection."""
        connections = self._connections.get()
        return [path for path, each in list(connections.items()) if path != self._control and not each.closed]

    def watch(self) -> Watch:
        """Return the watch over clients' sockets."""
        return self._watch.get()

    def timer(self) -> Timer:
        """Return the timer."""
        return self._timer.get()

    def _connect(self, path: str, due: float) -> Connection:
        """Connect in one thread while the others wait. None waits longer than its own attempt would take."""
        connections = self._connections.get()
        connecting = self._connecting.get().setdefault(path, threading.Lock())
        if not connecting.acquire(timeout=max(0.0, due - time.monotonic())):
            raise EngineGone("the engine can't be reached: timed out", RETRY_AFTER_SECONDS)
        try:
            connection = connections.get(path)
            if connection is None or connection.closed:
                self._drop_closed(but=path)
                left = max(LAST_TRY_SECONDS, due - time.monotonic())
                address = parse_address(path).reached_from(self._control_address)
                is_watched = self._host_answers if address.is_unix and path != self._control else None
                hangs = self._hangs_seconds
                connection = connections[path] = Connection(address, left, self._tls, is_watched, hangs)
            return connection
        finally:
            connecting.release()

    def _host_answers(self) -> bool:
        """Return whether the engine host is there and does not hang."""
        with contextlib.suppress(EngineGone):
            return not self.control().closed
        return False

    def _drop_closed(self, but: str) -> None:
        connections, connecting = self._connections.get(), self._connecting.get()
        for path in [path for path, each in list(connections.items()) if each.closed and path != but]:
            connections.pop(path, None)
            connecting.pop(path, None)


def _unreachable(error: OSError | SettingsError) -> EngineGone:
    text = error.message if isinstance(error, SettingsError) else error.strerror or str(error)
    return EngineGone(f"the engine can't be reached: {text}", RETRY_AFTER_SECONDS)


def check_protocol(hello: Hello) -> None:
    """Raise EngineGone when the engine has another protocol. The message names the side to restart."""
    if hello.protocol != PROTOCOL:
        older = "engine host" if hello.protocol < PROTOCOL else "web tier"
        raise EngineGone(
            f"the engine uses protocol {hello.protocol} of the queue and the web tier protocol {PROTOCOL}: "
            f"install the same version of both, and restart the {older}, which is older",
            RETRY_AFTER_SECONDS,
        )
