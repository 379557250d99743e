"""The streams that outlive their connection: their answers so far, their readers, and when they end.

In: the commands SubmitKept, Attach, Detach, EndStream and ListStreams. Out: their events.
It never knows how an answer is generated.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from itertools import accumulate

from ...errors import EngineGone, InternalError, ResponseNotFound, ServiceError, StreamGone, TooManyRequests, revive
from ...protocol.commands import Command
from ...protocol.events import Done, Event, KeptStreams
from ...protocol.joined import Places
from ...protocol.kept import SHARES, Attach, Detach, EndStream, Keep, ListStreams, SubmitKept
from ...protocol.request import Defaults, Request
from ..listener import Emit, Handler, Push
from .kept_shelf import Shelf
from .kept_stream import KeptStream

logger = logging.getLogger("vllm_wsgi.worker")

Generate = Callable[[Request, Defaults, Emit], Awaitable[None]]


# Whose streams are too many, or too long, as a sentence about them begins.
_KEY = "the key has", "the key keeps"
_KEYLESS = "the callers without a key have", "the callers without a key keep"
_ALL = "the model has", "the model keeps"


class StreamStore:
    """Every kept stream of this engine worker. `generate` emits the events of one request, once it is admitted."""

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._shelf = Shelf()
        self.handlers: dict[type[Command], Handler | Push] = {
            SubmitKept: Push(self._submit),
            Attach: Push(self._attach),
            Detach: self._detach,
            EndStream: self._end,
            ListStreams: self._list,
        }

    async def _submit(self, command: SubmitKept, emit: Emit) -> None:
        """Begin a stream and follow it for the web worker that guards it. Raises TooManyRequests."""
        if not command.so_far:
            self._make_room(command.keep)
        if former := self._shelf.remove(command.keep.stream):
            # Its web worker has taken this engine for dead, and its readers look for the stream again.
            former.fail(EngineGone("the stream has moved"))
        stream = KeptStream(command, self._count)
        self._shelf.put(stream)
        places = Places()
        # The web worker has what another engine has generated.
        deque(stream.joined.since(places), maxlen=0)
        for place, request in zip(command.places, command.requests, strict=True):
            generation = self._generations(stream, place, request, command.defaults)
            stream.tasks.append(asyncio.get_running_loop().create_task(generation))
        self._look_at(stream)
        try:
            await stream.read(command.id, emit, places)
        finally:
            stream.guard_reads = False
            self._look_at(stream)

    async def _attach(self, command: Attach, emit: Emit) -> None:
        """Read a stream, and follow it where that is wanted. Raises ResponseNotFound and TooManyRequests."""
        stream = self._found(command.stream, command.owner)
        self._check_readers(stream.keep)
        stream.readers += 1
        self._look_at(stream)
        try:
            await stream.read(command.id, emit, Places(), command.follow)
        finally:
            stream.readers -= 1
            self._look_at(stream)

    async def _detach(self, command: Detach) -> AsyncGenerator[Event, None]:
        stream = self._found(command.stream, command.owner)
        stream.guard_reads = False
        self._look_at(stream)
        yield Done(command.id)

    async def _end(self, command: EndStream) -> AsyncGenerator[Event, None]:
        stream = self._found(command.stream, command.owner)
        if command.kind:
            stream.fail(revive(command.kind, command.message, None))
        else:
            stream.is_cancelled = stream.is_cancelled or not stream.ended
            stream.fail(StreamGone("the stream was ended by its owner"))
        if command.forget:
            self._forget(stream)
        self._look_at(stream)
        yield Done(command.id)

    async def _list(self, command: ListStreams) -> AsyncGenerator[Event, None]:
        yield KeptStreams(command.id, [each.state() for each in self._shelf.streams(command.owner)])

    def whole(self, most_bytes: int) -> list[SubmitKept]:
        """Return the commands that keep the streams which are whole in another engine worker, the newest first.

        They hold `most_bytes` together. The other ones are lost with this worker, and the log counts them.
        """
        whole = [each for each in reversed(self._shelf.streams()) if each.is_whole]
        held = list(accumulate(each.bytes for each in whole))
        fitting = whole[: bisect_right(held, most_bytes)]
        if len(fitting) < len(whole):
            logger.warning("%d ended streams are lost: they are too long", len(whole) - len(fitting))
        return [each.handed_over() for each in fitting]

    def _found(self, id: str, owner: str) -> KeptStream:
        stream = self._shelf.get(id)
        if stream is None or stream.keep.owner != owner:
            raise ResponseNotFound("stream not found")
        return stream

    def _check_readers(self, keep: Keep) -> None:
        """Raise TooManyRequests where the owner's streams have as many readers as the owner may have streams.

        For each token of a stream, each reader costs as much as a stream of its own.
        """
        readers = sum(each.readers for each in self._shelf.streams(keep.owner))
        if readers >= keep.most_streams:
            limit = f"VLLM_WSGI_RESUME_STREAMS allows {keep.most_streams}"
            raise TooManyRequests(f"the streams of the key have {readers} readers, and {limit}")

    def _make_room(self, keep: Keep) -> None:
        """Forget cancelled streams, the oldest first, as long as the owner, or all owners together, keep too much.

        Raises TooManyRequests where that is not enough.
        """
        whose_own = _KEY if keep.owner else _KEYLESS
        for whose, owner, share in ((whose_own, keep.owner, 1), (_ALL, None, SHARES)):
            while excess := self._excess(keep, whose, owner, share):
                cancelled = next((each for each in self._shelf.streams(owner) if each.is_cancelled), None)
                if cancelled is None:
                    raise TooManyRequests(excess)
                self._forget(cancelled)

    def _excess(self, keep: Keep, whose: tuple[str, str], owner: str | None, share: int) -> str:
        """Return why the streams of an owner, or of all, leave no room for one more; empty where they do."""
        number, held = self._shelf.number(owner), self._shelf.bytes(owner) + len(keep.recipe)
        if number >= keep.most_streams * share:
            limit = f"VLLM_WSGI_RESUME_STREAMS allows {keep.most_streams * share}"
            return f"{whose[0]} {number} streams that are kept, and {limit}"
        if held > keep.most_bytes * share:
            limit = f"VLLM_WSGI_RESUME_BYTES allows {keep.most_bytes * share}"
            return f"the streams that {whose[1]} would take {held} bytes, and {limit}"
        return ""

    def _forget(self, stream: KeptStream) -> None:
        self._shelf.remove(stream.keep.stream)
        self._look_at(stream)

    async def _generations(self, stream: KeptStream, place: int, request: Request, defaults: Defaults) -> None:
        """Generate the answers to one request; the first of them has the index `place`."""
        try:
            await self._generate(request, defaults, partial(stream.add, place))
        except ServiceError as error:
            stream.fail(error)
        except Exception:
            logger.exception("request %s failed", request.request_id)
            stream.fail(InternalError())
        self._look_at(stream)

    def _count(self, stream: KeptStream) -> None:
        """End a stream that has grown where its owner's streams hold too many bytes now."""
        keep = stream.keep
        self._shelf.count(stream)
        held = self._shelf.bytes(keep.owner)
        if held > keep.most_bytes:
            limit = f"VLLM_WSGI_RESUME_BYTES allows {keep.most_bytes}"
            stream.fail(TooManyRequests(f"the streams that the key keeps hold {held} bytes, and {limit}"))
            self._look_at(stream)

    def _look_at(self, stream: KeptStream) -> None:
        """Start the clock of a stream that nobody waits for, or stop it."""
        self._shelf.count(stream)
        counts = self._shelf.has(stream) and not stream.is_read and (stream.ended or not stream.keep.background)
        if counts and stream.expiry is None:
            loop = asyncio.get_running_loop()
            stream.expiry = loop.call_later(stream.keep.seconds, self._expire, stream)
        elif not counts and stream.expiry is not None:
            stream.expiry.cancel()
            stream.expiry = None

    def _expire(self, stream: KeptStream) -> None:
        if self._shelf.has(stream):
            self._shelf.remove(stream.keep.stream)
        stream.fail(StreamGone(f"nobody has read the stream for {stream.keep.seconds:g} s"))
