"""The engine's end of the queue, and a web worker's end that a test reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.engine.listener import WebWorkerConnection
from service.protocol.commands import Check, Command
from service.protocol.events import Checked, Event, Hello
from service.protocol.wire import Unpacker, decode_events, pack


class WebWorker:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._unpacker = Unpacker()
        # The events of each message.
        self.messages: list[list[Event]] = []

    def send(self, *commands: Command) -> None:
        for command in commands:
            self.writer.write(pack(command))

    async def receive(self, count: int) -> list[Event]:
        """The next `count` events; fails when the connection closes before."""
        events: list[Event] = []
        while len(events) < count:
            events += await self.message()
        return events

    async def message(self) -> list[Event]:
        while not self.messages:
            data = await self._reader.read(1 << 16)
            assert data, "the connection has closed"
            self.messages += [decode_events(payload) for payload in self._unpacker.feed(data)]
        return self.messages.pop(0)


@asynccontextmanager
async def connected(handlers: dict[type[Command], Any], buffer: int | None = None) -> AsyncIterator[WebWorker]:
    """A web worker; the kernel keeps about `buffer` bytes that it has not read."""
    ours, theirs = socket.socketpair()
    if buffer is not None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    serving = asyncio.create_task(WebWorkerConnection(handlers, *await asyncio.open_connection(sock=ours)).serve())
    worker = WebWorker(*await asyncio.open_connection(sock=theirs))
    assert await worker.receive(1) == [Hello()]
    yield worker
    worker.writer.close()
    await serving


async def answer(command: Check) -> AsyncGenerator[Event, None]:
    yield Checked(command.id, "")
