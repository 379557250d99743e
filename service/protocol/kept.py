"""Streams that outlive their connection: what their engine worker keeps of them, and what it says of them."""

from __future__ import annotations

from typing import Optional

import msgspec


class Keep(msgspec.Struct, frozen=True):
    """How an engine worker keeps a stream.

    `stream` is the stream's id and `owner` the name of the key that made it. `recipe` is what a web worker needs to
    make the stream's records again; the engine does not read it. `seconds` is how long the stream is kept after its
    last reader has left, and after its end. A stream in the `background` is generated to its end without a reader.
    `began` is in nanoseconds since the epoch. An owner may have `most_streams`, which hold `most_bytes` together; an
    engine worker keeps SHARES times as much in all.
    """

    stream: str
    owner: str
    recipe: bytes
    seconds: float
    background: bool
    began: int
    most_streams: int
    most_bytes: int
    load_ns: int = 0


# How many owners may use their whole limits in one engine worker.
SHARES = 10


class KeptState(msgspec.Struct, frozen=True):
    """One stream of an owner. `state` is running, done, failed or cancelled, `tokens` what the answers have so far.

    `expires_at` is in seconds since the epoch, and None while somebody reads the stream or the background runs it.
    """

    stream: str
    model: str
    state: str
    tokens: int
    background: bool
    expires_at: Optional[float] = None
