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
from .kept_stream import KeptStream

logger = logging.getLogger("vllm_wsgi.worker")

Generate = Callable[[Request, Defaults, Emit], Awaitable[None]]


class StreamStore:
    """Every kept stream of this engine worker. `generate` emits the events of one request, once it is admitted."""

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._streams: dict[str, KeptStream] = {}
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
        if former := self._streams.pop(command.keep.stream, None):
            # Its web worker has taken this engine for dead, and its readers look for the stream again.
            former.fail(EngineGone("the stream has moved"))
        stream = self._streams[command.keep.stream] = KeptStream(command, self._count)
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
        yield KeptStreams(command.id, [each.state() for each in self._streams.values() if _owns(command.owner, each)])

    def whole(self, most_bytes: int) -> list[SubmitKept]:
        """Return the commands that keep the streams which are whole in another engine worker, the newest first.

        They hold `most_bytes` together. The other ones are lost with this worker, and the log counts them.
        """
        whole = [each for each in reversed(self._streams.values()) if each.is_whole]
        held = list(accumulate(each.bytes for each in whole))
        fitting = whole[: bisect_right(held, most_bytes)]
        if len(fitting) < len(whole):
            logger.warning("%d ended streams are lost: they are too long", len(whole) - len(fitting))
        return [each.handed_over() for each in fitting]

    def _found(self, id: str, owner: str) -> KeptStream:
        stream = self._streams.get(id)
        if stream is None or not _owns(owner, stream):
            raise ResponseNotFound("stream not found")
        return stream

    def _check_readers(self, keep: Keep) -> None:
        """Raise TooManyRequests where the owner's streams have as many readers as the owner may have streams.

        For each token of a stream, each reader costs as much as a stream of its own.
        """
        readers = sum(each.readers for each in self._shared(keep.owner, 1))
        if readers >= keep.most_streams:
            limit = f"VLLM_WSGI_RESUME_STREAMS allows {keep.most_streams}"
            raise TooManyRequests(f"the streams of the key have {readers} readers, and {limit}")

    def _make_room(self, keep: Keep) -> None:
        """Forget cancelled streams, the oldest first, as long as the owner, or all owners together, keep too much.

        Raises TooManyRequests where that is not enough.
        """
        for whose, share in (("the key", 1), ("the model", SHARES)):
            while excess := _excess(keep, streams := self._shared(keep.owner, share), whose, share):
                cancelled = next((each for each in streams if each.is_cancelled), None)
                if cancelled is None:
                    raise TooManyRequests(excess)
                self._forget(cancelled)

    def _shared(self, owner: str, share: int) -> list[KeptStream]:
        """Return the streams that share a limit, the oldest first: the owner's, or those of all."""
        return [each for each in self._streams.values() if share > 1 or _owns(owner, each)]

    def _forget(self, stream: KeptStream) -> None:
        self._streams.pop(stream.keep.stream, None)
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
        held = sum(each.bytes for each in self._shared(keep.owner, 1))
        if held > keep.most_bytes:
            limit = f"VLLM_WSGI_RESUME_BYTES allows {keep.most_bytes}"
            stream.fail(TooManyRequests(f"the streams that the key keeps hold {held} bytes, and {limit}"))
            self._look_at(stream)

    def _look_at(self, stream: KeptStream) -> None:
        """Start the clock of a stream that nobody waits for, or stop it."""
        is_kept = self._streams.get(stream.keep.stream) is stream
        counts = is_kept and not stream.is_read and (stream.ended or not stream.keep.background)
        if counts and stream.expiry is None:
            loop = asyncio.get_running_loop()
            stream.expiry = loop.call_later(stream.keep.seconds, self._expire, stream)
        elif not counts and stream.expiry is not None:
            stream.expiry.cancel()
            stream.expiry = None

    def _expire(self, stream: KeptStream) -> None:
        if self._streams.get(stream.keep.stream) is stream:
            del self._streams[stream.keep.stream]
        stream.fail(StreamGone(f"nobody has read the stream for {stream.keep.seconds:g} s"))


def _excess(keep: Keep, streams: list[KeptStream], whose: str, share: int) -> str:
    """Return why these streams leave no room for one more; empty where they do."""
    if len(streams) >= keep.most_streams * share:
        limit = f"VLLM_WSGI_RESUME_STREAMS allows {keep.most_streams * share}"
        return f"{whose} has {len(streams)} streams that are kept, and {limit}"
    held = sum(each.bytes for each in streams) + len(keep.recipe)
    if held > keep.most_bytes * share:
        limit = f"VLLM_WSGI_RESUME_BYTES allows {keep.most_bytes * share}"
        return f"the streams that {whose} keeps would take {held} bytes, and {limit}"
    return ""


def _owns(owner: str, stream: KeptStream) -> bool:
    return stream.keep.owner == owner
