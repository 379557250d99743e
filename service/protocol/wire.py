"""Every message of the queue, and how it lies on the wire.

    web worker ──▶ engine host     Locate, Unload, ListModels, ListLoaded, ShowModel      control socket
                                   Pull, Create, Copy, Delete, FindBlob, PutBlob, DropBlob
                                   StoreResponse, FetchResponse, DropResponse
                                   Check, Measure, Count
    web worker ──▶ engine worker   Submit, Embed, Cancel, Measure                         data socket
    either     ──▶ web worker      [event, …]                                             both sockets
    engine worker ──▶ engine host  Ready, LoadFailed, EngineDied, Pulse, Activity         its lifeline

A frame is a 4-byte big-endian length and that many bytes of msgpack. Both sockets answer in the same way: a
Hello first, then lists of events, each event naming the request that it belongs to. One list carries
everything that one decode step produced for one web worker.
"""

from __future__ import annotations

import struct

import msgspec

from .commands import Command
from .events import Event
from .reports import Report

MAX_FRAME_BYTES = 256 * 1024 * 1024

_LENGTH = struct.Struct(">I")

_encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_events = msgspec.msgpack.Decoder(list[Event]).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


def pack(message: Command | Report | list[Event]) -> bytes:
    """The frame of a message."""
    payload = _encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Unpacker:
    """Cuts a byte stream into the payloads of its frames; raises ValueError for one that is too long."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return payloads
