"""The streams that outlive their connection: their answers so far, their readers, and when they end.

In: the commands SubmitKept, Attach, Detach, EndStream and ListStreams. Out: their events.
It never knows how an answer is generated.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from ...errors import EngineGone, InternalError, ResponseNotFound, ServiceError, StreamGone, TooManyRequests, revive
from ...protocol.commands import Command
from ...protocol.events import Delta, Done, Event, Finished, Head, KeptStreams
from ...protocol.joined import JoinedAnswers, Places
from ...protocol.kept import SHARES, Attach, Detach, EndStream, Keep, KeptState, ListStreams, SubmitKept
from ...protocol.request import Defaults, Request
from ...protocol.wire import decode_events
from ..listener import Emit, Handler, Push

logger = logging.getLogger("vllm_wsgi.worker")

_KEPT = (Delta, Finished)

Generate = Callable[[Request, Defaults, Emit], Awaitable[None]]


@dataclass(eq=False)
class Follower:
    """A reader that has all of a stream so far, and gets what follows under this `id`."""

    id: int
    emit: Emit
    ended: asyncio.Future[None]


class KeptStream:
    """One stream: its answers so far, and its readers. `guard_reads`: one of them is the client of its web worker."""

    def __init__(self, command: SubmitKept) -> None:
        self.keep = command.keep
        self.model = command.requests[0].model if command.requests else ""
        self.answers = command.answers
        self.joined = JoinedAnswers()
        self.failed: ServiceError | None = None
        self.is_cancelled = False
        self.readers = 0
        self.guard_reads = command.reads
        self.tasks: list[asyncio.Task[None]] = []
        self.expiry: asyncio.TimerHandle | None = None
        self._followers: list[Follower] = []
        for event in decode_events(command.so_far) if command.so_far else []:
            if isinstance(event, _KEPT):
                self.joined.add(event)

    @property
    def ended(self) -> bool:
        return self.failed is not None or self.joined.ended == self.answers

    @property
    def bytes(self) -> int:
        return self.joined.bytes + len(self.keep.recipe)

    @property
    def is_read(self) -> bool:
        return self.readers > 0 or self.guard_reads

    def state(self) -> KeptState:
        return KeptState(
            self.keep.stream,
            self.model,
            self._state(),
            self.joined.tokens,
            self.keep.background,
            time.time() + self.expiry.when() - asyncio.get_running_loop().time() if self.expiry else None,
        )

    def head(self, id: int) -> Head:
        return Head(
            id,
            self.keep.recipe,
            self.answers,
            self.keep.began,
            self.keep.load_ns,
            self.keep.background,
            self._state(),
        )

    def add(self, event: Delta | Finished) -> None:
        """Add the next event, which each follower gets at once. It belongs to this stream from now on."""
        if self.failed is not None:
            return
        self.joined.add(event)
        if len(self._followers) == 1:
            (follower,) = self._followers
            event.id = follower.id
            follower.emit(event)
        else:
            for follower in self._followers:
                follower.emit(replace(event, id=follower.id))
        if type(event) is Finished and self.ended:
            self.release_followers()

    def fail(self, error: ServiceError) -> None:
        """End the stream with an error, unless it has ended."""
        if not self.ended:
            self.failed = error
            for task in self.tasks:
                task.cancel()
        self.release_followers()

    def release_followers(self) -> None:
        """End the wait of each follower: nothing follows."""
        for follower in self._followers:
            if not follower.ended.done():
                follower.ended.set_result(None)

    async def read(self, id: int, emit: Emit, places: Places, follow: bool = True) -> None:
        """Emit the events after `places`, and with `follow` those to come. Raises the error that ended the stream."""
        emit(self.head(id))
        for event in self.joined.since(places):
            event.id = id
            emit(event)
        if follow and not self.ended:
            await self._follow(Follower(id, emit, asyncio.get_running_loop().create_future()))
        if self.failed is not None:
            raise self.failed
        if not follow:
            emit(Done(id))

    async def _follow(self, follower: Follower) -> None:
        self._followers.append(follower)
        try:
            await follower.ended
        finally:
            self._followers.remove(follower)

    def _state(self) -> str:
        if self.is_cancelled:
            return "cancelled"
        if self.failed is not None:
            return "failed"
        return "done" if self.ended else "running"


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
        stream = self._streams[command.keep.stream] = KeptStream(command)
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
        stream = self._found(command.stream, command.owner)
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

    def _found(self, id: str, owner: str) -> KeptStream:
        stream = self._streams.get(id)
        if stream is None or not _owns(owner, stream):
            raise ResponseNotFound("stream not found")
        return stream

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

        def add(event: Event) -> None:
            # A kept stream has no events of other kinds: it is never `render_only`.
            if isinstance(event, _KEPT):
                event.index += place
                stream.add(event)

        try:
            await self._generate(request, defaults, add)
        except ServiceError as error:
            stream.fail(error)
        except Exception:
            logger.exception("request %s failed", request.request_id)
            stream.fail(InternalError())
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
