"""Streams that outlive their connection: the commands about them, and their state in an engine worker."""

from __future__ import annotations

from typing import Optional

import msgspec

from .request import Defaults, Request, Struct


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
    """One stream of an owner. `state` is running, done, failed or cancelled, `tokens` the number so far.

    `expires_at` is in seconds since the epoch, and None while somebody reads the stream or the background runs it.
    """

    stream: str
    model: str
    state: str
    tokens: int
    background: bool
    expires_at: Optional[float] = None


class SubmitKept(Struct):
    """Generate a stream that outlives this connection.

    `places[i]` is the index of the first answer to `requests[i]`; the events are numbered through all of the stream's
    `answers`. `so_far` holds what another engine has generated, as `wire.pack_events` returns it. `reads`: the client
    of the web worker that sends this reads the stream. `model` is needed where there are no requests.
    """

    id: int
    keep: Keep
    requests: list[Request]
    places: list[int]
    answers: int
    defaults: Defaults = Defaults()
    so_far: bytes = b""
    reads: bool = True
    model: str = ""


class Attach(Struct):
    """Read a kept stream from its beginning, and then live. Without `follow` the events end with the newest one."""

    id: int
    stream: str
    owner: str
    follow: bool = True


class Detach(Struct):
    """The client that had sent the stream's request has left. Its web worker stays, in case the engine dies."""

    id: int
    stream: str
    owner: str


class EndStream(Struct):
    """End a kept stream. Its readers get an error of this `kind`, by default "the stream was ended by its owner".

    With `forget` the stream is not kept any more, so that it counts towards no limit.
    """

    id: int
    stream: str
    owner: str
    kind: str = ""
    message: str = ""
    forget: bool = False


class ListStreams(Struct):
    """List an owner's streams."""

    id: int
    owner: str
