"""Hands the ended streams of a worker that ends to another worker of the model, which keeps them from then on.

In: SubmitKept commands, and the data sockets of the workers that serve. Out: the same commands, sent there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from msgspec.structs import replace

from ...errors import ServiceError
from ...protocol.events import Failed, Head
from ...protocol.kept import SubmitKept
from ...protocol.wire import Unpacker, decode_events, pack
from ...transport.address import parse_address
from ...transport.connect import connect

logger = logging.getLogger("vllm_wsgi.host")

# How long another worker may take for each of connecting, reading and answering.
STEP_SECONDS = 10.0


class KeptHandover:
    """The ended streams of one replica's last worker, until another worker has them. `tls` is as in WorkerOptions."""

    def __init__(self, label: str, tls: str) -> None:
        self._label = label
        self._tls = tls
        self._streams: list[SubmitKept] = []
        self._source = ""
        self._came = 0.0
        self._sending: asyncio.Task[None] | None = None

    def add(self, streams: list[SubmitKept], source: str) -> None:
        """Take the streams of the worker at the data socket `source`, which ends."""
        self._streams, self._source, self._came = streams, source, time.monotonic()

    def to(self, sockets: Iterable[str]) -> None:
        """Begin to send the streams to one of the workers at these data sockets, unless their time is over."""
        target = next((each for each in sockets if each and each != self._source), "")
        if not self._streams or not target:
            return
        age = time.monotonic() - self._came
        streams = [each for each in self._streams if each.keep.seconds > age]
        self._streams = []
        self._sending = asyncio.get_running_loop().create_task(self._send(target, streams))

    async def _send(self, target: str, streams: list[SubmitKept]) -> None:
        try:
            await asyncio.to_thread(hand_over, target, streams, self._tls)
        except (OSError, ValueError, ServiceError) as error:
            logger.error("%s: its %d ended streams are lost: %s", self._label, len(streams), error)
        else:
            logger.info("%s: another worker keeps its %d ended streams", self._label, len(streams))


def hand_over(target: str, streams: list[SubmitKept], tls: str) -> None:
    """Have the worker at a data socket keep the streams. Raises OSError, ValueError and SettingsError."""
    connection = connect(parse_address(target), STEP_SECONDS, tls)
    try:
        connection.settimeout(STEP_SECONDS)
        for number, stream in enumerate(streams, 1):
            frame = memoryview(pack(replace(stream, id=number)))
            while frame:
                frame = frame[connection.send(frame) :]
        # A command whose connection closes before it has begun is cancelled.
        unpacker, answered = Unpacker(), set[int]()
        while len(answered) < len(streams):
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionError("the other worker closed the connection")
            events = [event for payload in unpacker.feed(data) for event in decode_events(payload)]
            answered.update(event.id for event in events if isinstance(event, (Head, Failed)))
    finally:
        connection.close()
