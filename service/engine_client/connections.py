"""One socket to an engine process, shared by every request of this web worker."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading

from ..errors import BadRequest, EngineGone
from ..protocol.commands import Cancel, Command
from ..protocol.events import PROTOCOL, Delta, Event, Failed, Hello
from ..protocol.wire import Unpacker, decode_events, pack
from .inbox import Inbox

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
# For who has waited for another one's try to its end.
LAST_TRY_SECONDS = 0.1

RETRY_AFTER_SECONDS = 2
# Ollama's text for a runner that died (`llm/server.go`).
ENGINE_GONE = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check the server's logs for details"
)

_ids = itertools.count(1)


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
            frame = pack(command)
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
        hello = decode_events(payloads.pop(0))[0]
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
                    for event in decode_events(payload):
                        self._deliver(event)
        except OSError:
            pass
        except Exception:
            logger.exception("the queue broke")
        self.closed = True
        self._socket.close()
        for asked, inbox in list(self._inboxes.items()):
            inbox.put(Failed(asked, "EngineGone", ENGINE_GONE, RETRY_AFTER_SECONDS))
