"""One stream that outlives its connection: its answers so far, and its readers.

In: the events of its generations. Out: the same events for each reader, from the beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from ...errors import ServiceError
from ...protocol.events import Delta, Done, Event, Finished, Head
from ...protocol.joined import JoinedAnswers, Places
from ...protocol.kept import KeptState, SubmitKept
from ...protocol.wire import decode_events, pack_events
from ..listener import Emit

KEPT_EVENTS = (Delta, Finished)
# Whenever a stream has grown by so many bytes, those of its owner are counted.
COUNTED_BYTES = 64 * 1024


@dataclass(eq=False)
class Follower:
    """A reader that has all of a stream so far, and gets what follows under this `id`."""

    id: int
    emit: Emit
    ended: asyncio.Future[None]


class KeptStream:
    """One stream: its answers so far, and its readers. `guard_reads`: one of them is the client of its web worker.

    `grown` is called when the stream has grown by COUNTED_BYTES.
    """

    def __init__(self, command: SubmitKept, grown: Callable[[KeptStream], None] = lambda stream: None) -> None:
        self._grown = grown
        self.keep = command.keep
        self.model = command.requests[0].model if command.requests else command.model
        self.answers = command.answers
        self.joined = JoinedAnswers()
        self.failed: ServiceError | None = None
        self.is_cancelled = False
        self.readers = 0
        # The size at which the owner's bytes are counted next.
        self.counted_at = COUNTED_BYTES
        self.guard_reads = command.reads
        self.tasks: list[asyncio.Task[None]] = []
        self.expiry: asyncio.TimerHandle | None = None
        self._followers: list[Follower] = []
        for event in decode_events(command.so_far) if command.so_far else []:
            if isinstance(event, KEPT_EVENTS):
                self.joined.add(event)

    @property
    def ended(self) -> bool:
        return self.failed is not None or self.joined.ended == self.answers

    @property
    def is_whole(self) -> bool:
        """Whether every answer has ended, and none with an error."""
        return self.failed is None and self.ended

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

    def handed_over(self) -> SubmitKept:
        """Return the command that keeps the answers so far in another engine worker."""
        so_far = pack_events([*self.joined.since(Places())])
        return SubmitKept(0, self.keep, [], [], self.answers, so_far=so_far, reads=False, model=self.model)

    def add(self, place: int, event: Event) -> None:
        """Add the next event of a request, which each follower gets at once. It belongs to this stream from now on.

        `place` is the index of the request's first answer.
        """
        # A kept stream has no events of other kinds: it is never `render_only`.
        if self.failed is not None or not isinstance(event, KEPT_EVENTS):
            return
        event.index += place
        if type(event) is Finished:
            # Those who read the answer later report the same durations.
            event.ended = time.time_ns()
        self.joined.add(event)
        if len(self._followers) == 1:
            (follower,) = self._followers
            event.id = follower.id
            follower.emit(event)
        else:
            for follower in self._followers:
                follower.emit(replace(event, id=follower.id))
        if self.joined.settled_bytes > self.counted_at:
            self.counted_at = self.joined.settled_bytes + COUNTED_BYTES
            self._grown(self)
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
