"""Threads for the work before generation: rendering, tokenizing, reading images, checking schemas.

A client decides how much of this work there is. So it is done off the loop that serves, no caller ever has all threads,
and callers take turns. The work of one request is done in several steps, and between two of them others get their turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from ...errors import Unavailable

logger = logging.getLogger("vllm_wsgi.worker")

LEAST_THREADS, MOST_THREADS = 3, 5
# A prompt that fits a context takes a few seconds. A longer step is treated as one that does not end.
STEP_SECONDS = 30.0

T = TypeVar("T")


class Preparation:
    """A pool of threads, of which a caller has all but one at the most."""

    def __init__(self, threads: int = 0, step_seconds: float = STEP_SECONDS) -> None:
        self.threads = threads or max(LEAST_THREADS, min(MOST_THREADS, len(os.sched_getaffinity(0)) + 1))
        self._most = max(1, self.threads - 1)
        self._step_seconds = step_seconds
        self._free = self.threads
        self._pool = ThreadPoolExecutor(self.threads, "preparation")
        self._busy: Counter[str] = Counter()
        # By caller, in the order of their next turns.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, caller: str, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Return what `work` returns in a thread. Raises what it raises, and Unavailable when it does not end.

        When the task is cancelled, the caller's turn lasts until the thread is free again: threads can't be stopped.
        """
        await self._turn(caller)
        loop, over = asyncio.get_running_loop(), False

        def end_turn() -> None:
            nonlocal over
            if not over:
                over = True
                self._end_turn(caller)

        done = self._pool.submit(partial(work, *arguments, **named))
        done.add_done_callback(lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(end_turn))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), self._step_seconds)
        except TimeoutError:
            if not done.done():
                self._abandon_pool()
            end_turn()
            raise Unavailable("the request took too long to prepare, please try again") from None

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Have the caller's turn for work that is done elsewhere."""
        await self._turn(caller)
        try:
            yield
        finally:
            self._end_turn(caller)

    async def _turn(self, caller: str) -> None:
        if self._may_begin(caller) and caller not in self._waiting:
            self._begin(caller)
            return
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given in self._waiting.get(caller, ()):
                self._next(caller, given)
            elif not given.cancelled():
                self._end_turn(caller)
            raise

    def _may_begin(self, caller: str) -> bool:
        return self._free > 0 and self._busy[caller] < self._most

    def _begin(self, caller: str) -> None:
        self._free -= 1
        self._busy[caller] += 1

    def _end_turn(self, caller: str) -> None:
        self._free += 1
        self._busy[caller] -= 1
        # A caller without a thread must not stay in memory, since names come from keys that come and go.
        self._busy += Counter()
        while (waiting := next(filter(self._may_begin, self._waiting), None)) is not None:
            given = self._next(waiting)
            if not given.cancelled():
                self._begin(waiting)
                given.set_result(None)

    def _next(self, caller: str, given: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
        """Take a caller's next turn, or `given`, out of the queue. The caller's other turns come after everybody's."""
        turns = self._waiting.pop(caller)
        given = given or turns[0]
        turns.remove(given)
        if turns:
            self._waiting[caller] = turns
        return given

    def _abandon_pool(self) -> None:
        """Leave a thread that does not end to itself, and use new ones."""
        logger.error(
            "a step of preparing a request has not ended after %g s: its thread is given up", self._step_seconds
        )
        self._pool.shutdown(wait=False)
        self._pool = ThreadPoolExecutor(self.threads, "preparation")
