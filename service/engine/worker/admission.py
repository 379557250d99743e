"""Decide which requests enter the engine, and when. All web workers' requests for one model meet here, before any work.

A request is refused at once when its caller is over a limit, or when the queue is full. Otherwise it waits for its
turn. The engine gets no more requests than it runs at once. The others wait here, where callers take turns: in the
engine's own queue a caller with five hundred requests would have them all served before the next caller's first.

A request takes a place for each of its sequences. The next place goes to the caller that has the fewest, and one caller
never has them all while there are others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ...errors import ServerBusy, TooManyRequests
from ...protocol.events import Delta, Event, Finished, Vectors
from ...protocol.request import Caller
from ..shares import room

RETRY_SECONDS = 1
# A turn that needs many places may be passed by turns of this many times as many places as the engine has.
PASSED_ROUNDS = 4

Clock = Callable[[], float]


@dataclass(eq=False)
class Turn:
    """A request that waits for `capacity` places in the engine.

    `moved`: another engine has begun its answer. It `waits` while it is in the queue, and is `admitted` after that.
    `passed_by` counts the places of the turns that went before it out of order, because it needs more than were free.
    `beside`: it was admitted beside a turn that was due.
    """

    caller: Caller
    capacity: int
    given: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    moved: bool = False
    waits: bool = False
    admitted: bool = False
    passed_by: int = 0
    beside: bool = False


class FairQueue:
    """The order of turns: the lowest priority number first, then the caller with the fewest places.

    Callers with as many places take turns. Of one caller's turns the oldest is next.
    """

    def __init__(self) -> None:
        # By priority, then by caller; the caller whose last turn is the longest ago comes first.
        self._lanes: defaultdict[int, dict[str, deque[Turn]]] = defaultdict(dict)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, turn: Turn) -> None:
        lane = self._lanes[turn.caller.priority].setdefault(turn.caller.name, deque())
        # A request whose engine was lost has had its turn already.
        (lane.appendleft if turn.moved else lane.append)(turn)
        turn.waits = True
        self._length += 1

    def in_order(self, places: Callable[[str], int]) -> list[Turn]:
        """Return the next turn of each caller with the lowest priority number. `places` says how many a caller has."""
        if not self._lanes:
            return []
        lanes = self._lanes[min(self._lanes)]
        return [lanes[name][0] for name in sorted(lanes, key=places)]

    def take(self, turn: Turn) -> None:
        """Take out a turn that is its caller's next; the caller comes after those with as many places now."""
        self.remove(turn)
        lanes = self._lanes.get(turn.caller.priority, {})
        if turn.caller.name in lanes:
            lanes[turn.caller.name] = lanes.pop(turn.caller.name)

    def last(self) -> Turn:
        """Return the turn that has to leave a full queue.

        It has the highest priority number, and is the newest turn of the caller with the most turns there.
        """
        return max(reversed(self._lanes[max(self._lanes)].values()), key=len)[-1]

    def remove(self, turn: Turn) -> None:
        lanes = self._lanes[turn.caller.priority]
        lane = lanes[turn.caller.name]
        lane.remove(turn)
        turn.waits = False
        self._length -= 1
        if not lane:
            del lanes[turn.caller.name]
        if not lanes:
            del self._lanes[turn.caller.priority]


class Bucket:
    """A token bucket: `rate` tokens a minute, saved up for at most one minute.

    Tokens are taken after they were used, so that the bucket can go below zero.
    """

    def __init__(self, rate: int, clock: Clock = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = float(rate)
        self._filled_at = clock()

    def take(self, tokens: int) -> None:
        self._fill()
        self._tokens -= tokens

    def debt_seconds(self) -> float:
        """Return the seconds until the bucket is back at zero; 0 when it is not below."""
        self._fill()
        return max(0.0, -self._tokens * 60 / self.rate)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(float(self.rate), self._tokens + (now - self._filled_at) * self.rate / 60)
        self._filled_at = now


class Bill:
    """Charges what one request uses: output as it comes, the prompt once, with the first event that has its size."""

    def __init__(self, bucket: Bucket | None, has_prompt: bool = False) -> None:
        self._bucket = bucket
        self._has_prompt = has_prompt

    def add(self, event: Event) -> None:
        if self._bucket is None or not isinstance(event, Delta | Finished | Vectors):
            return
        if isinstance(event, Delta):
            self._bucket.take(len(event.token_ids))
        if event.prompt_tokens and not self._has_prompt:
            self._bucket.take(event.prompt_tokens)
            # Each Vectors counts the tokens of its own texts only.
            self._has_prompt = not isinstance(event, Vectors)


class Account:
    """One caller's requests that run or wait, the places of those that run, and the tokens that they have used."""

    def __init__(self) -> None:
        self.places = 0
        self._requests = 0
        self._bucket: Bucket | None = None

    def enter(self, caller: Caller, moved: bool = False) -> Bill:
        """Count one more request, and return its bill. Raises TooManyRequests, unless the request has moved here.

        The prompt of a moved request was charged by the engine that was lost.
        """
        if moved:
            self._requests += 1
            return Bill(self._bucket, has_prompt=True)
        if 0 < caller.max_concurrent <= self._requests:
            raise TooManyRequests(
                f'key "{caller.name}" has {self._requests} requests running or waiting, which is all that it may have',
                RETRY_SECONDS,
            )
        if self._bucket is None or self._bucket.rate != caller.tokens_per_minute:
            self._bucket = Bucket(caller.tokens_per_minute) if caller.tokens_per_minute else None
        if self._bucket is not None and (seconds := self._bucket.debt_seconds()):
            rate = caller.tokens_per_minute
            raise TooManyRequests(f'key "{caller.name}" has used up its {rate} tokens a minute', math.ceil(seconds))
        self._requests += 1
        return Bill(self._bucket)

    def leave(self) -> None:
        self._requests -= 1


class Admission:
    """`capacity` is how many sequences the engine runs at once, `max_waiting` how many requests may wait.

    No limit when `max_waiting` is 0.
    """

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self._capacity = self._free = capacity
        # The places that go to callers without one while a turn is due.
        self._kept = capacity - room(0, capacity)
        self._beside = 0
        self._max_waiting = max_waiting
        self._queue = FairQueue()
        self._accounts: defaultdict[str, Account] = defaultdict(Account)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def admitted(self, caller: Caller, sequences: int, moved: bool = False) -> AsyncIterator[Bill]:
        """Wait for the request's turn; it holds its capacity while the context is open.

        Raises TooManyRequests where the caller is over a limit, and ServerBusy where the queue is full.
        """
        account = self._accounts[caller.name]
        bill = account.enter(caller, moved)
        # A request with more sequences than a caller may have places takes all of these.
        turn = Turn(caller, min(sequences, self._capacity - self._kept), moved=moved)
        try:
            await self._wait_for_capacity(turn)
            yield bill
        finally:
            account.leave()
            self._give_back(turn)

    async def _wait_for_capacity(self, turn: Turn) -> None:
        self._queue.push(turn)
        self._give_turns()
        if not turn.moved and 0 < self._max_waiting < len(self._queue):
            last = self._queue.last()
            self._queue.remove(last)
            if not last.given.cancelled():
                last.given.set_exception(ServerBusy())
        await turn.given

    def _give_turns(self) -> None:
        while (turn := self._next()) is not None:
            self._queue.take(turn)
            # A turn may have been cancelled without having left the queue yet.
            if not turn.given.cancelled():
                self._hold(turn, turn.capacity)
                turn.admitted = True
                turn.given.set_result(None)

    def _next(self) -> Turn | None:
        """Return the first turn, in the order of turns, for which there are enough places; None where there is none."""
        passed: list[Turn] = []
        for turn in self._queue.in_order(self._places):
            turn.beside = any(self._is_due(each) for each in passed)
            if turn.given.cancelled() or self._fits(turn):
                for each in passed:
                    each.passed_by += turn.capacity
                return turn
            passed.append(turn)
        return None

    def _places(self, name: str) -> int:
        return self._accounts[name].places

    def _is_due(self, turn: Turn) -> bool:
        """Return whether the turn has been passed often enough. It is not while its caller has other places."""
        return turn.passed_by >= PASSED_ROUNDS * self._capacity and not self._places(turn.caller.name)

    def _fits(self, turn: Turn) -> bool:
        """Return whether there are enough places for the turn. Beside one that is due there are only the kept ones."""
        places = self._places(turn.caller.name)
        if not places:
            return turn.capacity <= (min(self._free, self._kept - self._beside) if turn.beside else self._free)
        # A caller that is the only one leaves nothing free for others.
        free = room(places, self._free) if len(self._accounts) > 1 else self._free
        return not turn.beside and turn.capacity <= free

    def _hold(self, turn: Turn, places: int) -> None:
        self._free -= places
        self._accounts[turn.caller.name].places += places
        if turn.beside:
            self._beside += places

    def _give_back(self, turn: Turn) -> None:
        """Take the turn out of the queue or free its capacity. A refused turn has neither."""
        if turn.waits:
            self._queue.remove(turn)
        if turn.admitted:
            self._hold(turn, -turn.capacity)
        self._give_turns()
