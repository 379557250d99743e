"""The engine's end of the queue, the same for host and worker: commands come in, each is answered by events.

All events that come up in one turn of the loop leave as one message, so that a decode step costs one message for each
web worker instead of one for each request. Events that a web worker has no time to read pile up, and leave joined.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ..errors import BadRequest, EngineFailure, EngineGone, InternalError, ServiceError, SettingsError
from ..protocol.commands import Cancel, Command, Embed, Submit
from ..protocol.events import Alive, Event, Failed, Hello
from ..protocol.joining import joined
from ..protocol.salvage import message_id
from ..protocol.wire import UNFIT, Unpacker, decode_command, pack
from ..transport.address import Address
from ..transport.connect import PULSE_SECONDS

logger = logging.getLogger("vllm_wsgi.queue")

# A web worker that has left this much unread is behind: what comes up meanwhile waits for it, and is joined.
BEHIND_BYTES = 64 * 1024
# How many events wait before they are joined for the first time.
JOIN_EVENTS = 4096

# Takes an event of a command at any time until the command is answered.
Emit = Callable[[Event], None]
# Answers one kind of command. Each takes its own class, and no type covers them all.
Handler = Callable[[Any], AsyncGenerator[Event, None]]


@dataclass(frozen=True)
class Push:
    """A handler that emits its events itself, wherever they come up. An event then costs neither a task nor a wait.

    Nothing can hold such a handler up, so all that it emits must be fit for being joined.
    """

    answer: Callable[[Any, Emit], Awaitable[None]]


Handlers = Mapping[type[Command], "Handler | Push"]


class WebWorkerConnection:
    """One connected web worker and its requests, which are cancelled when the connection closes.

    With `pulses` the web worker gets an Alive every PULSE_SECONDS, so that it notices a process that hangs and, on
    another machine, a machine that vanishes.
    """

    def __init__(
        self, handlers: Handlers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pulses: bool = False
    ) -> None:
        self._handlers = handlers
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._outbox: list[Event] = []
        self._join_at = JOIN_EVENTS
        self._behind: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._pulses = pulses

    async def serve(self) -> None:
        """Answer commands until the web worker closes the connection."""
        self._emit(Hello(pulses=self._pulses))
        pulse = self._loop.create_task(self._send_pulses()) if self._pulses else None
        unpacker = Unpacker()
        try:
            while data := await self._reader.read(1 << 18):
                for payload in unpacker.feed(data):
                    self._receive(payload)
        except OSError:
            pass
        except ValueError as error:
            logger.error("a web worker sent an invalid command: %s", error)
        finally:
            for task in self._tasks.values():
                # A web worker that was killed writes no log itself.
                logger.warning("%s is cancelled: its web worker is gone", task.get_name())
                task.cancel()
            for waiting in (self._behind, pulse):
                if waiting is not None:
                    waiting.cancel()
            self._writer.close()

    async def _send_pulses(self) -> None:
        while True:
            await asyncio.sleep(PULSE_SECONDS)
            # Whatever waits to be sent is a sign of life itself.
            if not self._writer.transport.get_write_buffer_size():
                self._emit(Alive())

    def _receive(self, payload: bytes) -> None:
        """Begin a command; one that can't be decoded fails alone. Raises ValueError for what is not a message."""
        try:
            command = decode_command(payload)
        except UNFIT as error:
            number = message_id(payload)
            logger.error("command %d can't be read: %s", number, error)
            self._emit(Failed.of(number, BadRequest(f"the engine can't read the request: {error}")))
            return
        if isinstance(command, Cancel):
            if task := self._tasks.get(command.id):
                task.cancel()
        elif command.id in self._tasks:
            logger.error("%s is not answered: its id is in use", _label(command))
        else:
            task = self._loop.create_task(self._run(command), name=_label(command))
            self._tasks[command.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(command.id, None))

    async def _run(self, command: Command) -> None:
        try:
            await self._handle(command)
        except ServiceError as error:
            if isinstance(command, Submit | Embed) and isinstance(error, EngineFailure | EngineGone):
                # %r, since the message may quote the client, who must not be able to write lines of the log.
                logger.error("%s failed: %r", _label(command), error.message)
            self._emit(Failed.of(command.id, error))
        except ConnectionError:
            pass
        except Exception:
            logger.exception("%s failed", _label(command))
            self._emit(Failed.of(command.id, InternalError()))

    async def _handle(self, command: Command) -> None:
        """Raises BadRequest for a command that this process does not answer."""
        handler = self._handlers.get(type(command))
        if handler is None:
            raise BadRequest(f"this engine process does not answer {type(command).__name__}")
        if isinstance(handler, Push):
            await handler.answer(command, self._emit)
            return
        async with aclosing(handler(command)) as events:
            async for event in events:
                self._emit(event)
                if self._behind is not None:
                    # Web workers that read go on.
                    await self._writer.drain()

    def _emit(self, event: Event) -> None:
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(event)
        if len(self._outbox) > self._join_at:
            self._outbox = joined(self._outbox)
            self._join_at = max(JOIN_EVENTS, 2 * len(self._outbox))

    def _flush(self) -> None:
        """Send what has come up, unless the web worker is behind: then it is sent once the web worker has read."""
        if self._behind is None and self._writer.transport.get_write_buffer_size() > BEHIND_BYTES:
            self._behind = self._loop.create_task(self._catch_up())
        if self._behind is None:
            self._send()

    async def _catch_up(self) -> None:
        with suppress(ConnectionError):
            await self._writer.drain()
        self._behind = None
        self._send()

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, []
        self._join_at = JOIN_EVENTS
        if self._writer.is_closing():
            return
        # Where several steps have piled up, their tokens cost no more than those of one.
        has_piled_up = len({event.id for event in outbox}) < len(outbox)
        try:
            self._writer.write(pack(joined(outbox) if has_piled_up else outbox))
        except UNFIT:
            self._flush_singly(outbox)

    def _flush_singly(self, outbox: list[Event]) -> None:
        """Send each event on its own. One that can't be encoded ends its command with an error, and no other."""
        failed: set[int] = set()
        for event in outbox:
            if event.id in failed:
                continue
            try:
                self._writer.write(pack([event]))
            except UNFIT as error:
                failed.add(event.id)
                logger.error("the answer to command %d can't be sent: %s", event.id, error)
                refusal = EngineFailure(f"the answer holds a value that can't be sent: {error}")
                self._writer.write(pack([Failed.of(event.id, refusal)]))
                if task := self._tasks.get(event.id):
                    task.cancel()


def _label(command: Command) -> str:
    """Return the log's name of a command."""
    if isinstance(command, Submit | Embed):
        return f"request {command.request.request_id or command.id}"
    return f"command {type(command).__name__} {command.id}"


class Listening(Protocol):
    """Something that listens for web workers at `address`, until it is closed."""

    address: Address

    def close(self) -> None: ...


class UnixListener:
    """A Unix socket for the owner and the group."""

    def __init__(self, address: Address, server: asyncio.Server) -> None:
        self.address = address
        self._server = server
        self._inode = os.stat(address.host).st_ino

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def remove(self) -> None:
        """Remove the socket, unless another process has put its own in the place."""
        with suppress(OSError):
            if os.stat(self.address.host).st_ino == self._inode:
                os.unlink(self.address.host)


async def check_place(address: Address) -> None:
    """Raise SettingsError where a Unix socket would take the place of a file or of a socket that is in use."""
    try:
        mode = os.lstat(address.host).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{address} is not a socket: name a path that does not exist yet")
    try:
        _, writer = await asyncio.open_unix_connection(address.host)
    except OSError:
        return
    writer.close()
    raise SettingsError(f"a process listens at {address} already: end it first, or name another socket")


async def listen(address: Address, handlers: Handlers, tls: str = "", *, pulses: bool = False) -> Listening:
    """Serve web workers at `address`; replace a stale Unix socket. `tls` is the directory of the certificates.

    Connections to other machines have pulses in any case. Raises OSError, and SettingsError for certificates that
    can't be used.
    """
    if not address.is_unix:
        # Most engines serve their own machine only, and need no TLS library.
        from .tcp_listener import TcpListener

        return TcpListener(address, partial(_connected, handlers, pulses=True), tls)
    with suppress(FileNotFoundError):
        os.unlink(address.host)
    server = await asyncio.start_unix_server(partial(_connected, handlers, pulses=pulses), address.host)
    os.chmod(address.host, 0o660)
    return UnixListener(address, server)


async def _connected(
    handlers: Handlers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pulses: bool
) -> None:
    with suppress(asyncio.CancelledError):
        await WebWorkerConnection(handlers, reader, writer, pulses=pulses).serve()
