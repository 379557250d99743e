"""Turns for something of which there is little: callers take turns, and no caller ever has all of it.

In: the callers' names. Out: when each may begin. It never knows what a turn is for.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """At most `slots` turns at the same time, of which a caller has all but one at the most."""

    def __init__(self, slots: int) -> None:
        self._most = max(1, slots - 1)
        self._free = slots
        self._busy: Counter[str] = Counter()
        # By caller, in the order of their next turns.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Have a turn of the caller's inside."""
        await self.begin(caller)
        try:
            yield
        finally:
            self.end(caller)

    async def begin(self, caller: str) -> None:
        """Wait for a turn. The caller must `end` it."""
        if self._may_begin(caller) and caller not in self._waiting:
            self._take(caller)
            return
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given in self._waiting.get(caller, ()):
                self._next(caller, given)
            elif not given.cancelled():
                self.end(caller)
            raise

    def _may_begin(self, caller: str) -> bool:
        return self._free > 0 and self._busy[caller] < self._most

    def _take(self, caller: str) -> None:
        self._free -= 1
        self._busy[caller] += 1

    def end(self, caller: str) -> None:
        self._free += 1
        self._busy[caller] -= 1
        # A caller without a thread must not stay in memory, since names come from keys that come and go.
        self._busy += Counter()
        while (waiting := next(filter(self._may_begin, self._waiting), None)) is not None:
            given = self._next(waiting)
            if not given.cancelled():
                self._take(waiting)
                given.set_result(None)

    def _next(self, caller: str, given: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        """Take a caller's next turn, or `given`, out of the queue. The caller's other turns come after everybody's."""
        turns = self._waiting.pop(caller)
        given = given or turns[0]
        turns.remove(given)
        if turns:
            self._waiting[caller] = turns
        return given
