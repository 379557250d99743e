"""The form of messages on the wire: frames of msgpack.

    ┌────────────────────┬─────────────────────────┐
    │ length, 4 bytes    │ msgpack, `length` bytes │      the length is big-endian
    └────────────────────┴─────────────────────────┘

    web worker    ──▶ engine host or worker   a command           commands.py
    either engine ──▶ web worker              a list of events    events.py      a Hello first
    engine worker ──▶ engine host             a report            reports.py

The engine host listens on the control socket and each engine worker on its data socket; reports go over the lifeline, a
socket pair. In: messages. Out: frames, and the other way round. A message is an array: the name of its class, then its
fields.
"""

from __future__ import annotations

import struct

import msgspec

from ..errors import EngineFailure
from .commands import Command
from .events import Event, Failed, Hello
from .reports import Report
from .salvage import message_id, single_events

MAX_FRAME_BYTES = 256 * 1024 * 1024

_LENGTH = struct.Struct(">I")

_encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_events = msgspec.msgpack.Decoder(list[Event]).decode
_decode_event = msgspec.msgpack.Decoder(Event).decode
decode_hello = msgspec.msgpack.Decoder(list[Hello]).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


# Raised for a value that can't be encoded or decoded: lone surrogates, integers of more than 64 bits, too much depth.
UNFIT = (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError)


def pack(message: Command | Report | list[Event]) -> bytes:
    """Return the frame of a message. Raises one of UNFIT for a message that can't be encoded, or is too long."""
    payload = _encode(message)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes is longer than {MAX_FRAME_BYTES} bytes")
    return _LENGTH.pack(len(payload)) + payload


def pack_events(events: list[Event]) -> bytes:
    """Return the payload of a message with these events. Raises one of UNFIT."""
    return _encode(events)


def salvage_events(payload: bytes) -> tuple[list[Event], list[Failed]]:
    """Return the events of a message that can't be decoded as a whole, and a Failed for each that can't be decoded.

    Raises ValueError for a payload that is not a list of messages.
    """
    events: list[Event] = []
    failures: list[Failed] = []
    for each in single_events(payload):
        try:
            events.append(_decode_event(each))
        except UNFIT as error:
            failures.append(Failed.of(message_id(each), EngineFailure(f"the engine's answer can't be read: {error}")))
    return events, failures


class Unpacker:
    """Cuts a stream of bytes into the payloads of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that these bytes complete. Raises ValueError for a frame of more than MAX_FRAME_BYTES."""
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES} bytes")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return payloads
