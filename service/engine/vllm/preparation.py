"""Threads for the work before generation: rendering, tokenizing, reading images, checking schemas.

A client decides how much of this work there is. So it is done off the loop that serves, no caller ever has all threads,
and callers take turns. The work of one request is done in several steps, and between two of them others get their turn.
Short requests have a few milliseconds of it at the most, and take turns on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ...errors import Unavailable
from .turns import Turns

logger = logging.getLogger("vllm_wsgi.worker")

LEAST_THREADS, MOST_THREADS = 3, 5
# A prompt that fits a context takes a few seconds. A longer step is treated as one that does not end.
STEP_SECONDS = 30.0

T = TypeVar("T")


class Preparation:
    """A pool of threads, of which a caller has all but one at the most. `turns` are also for work done elsewhere."""

    def __init__(self, threads: int = 0, step_seconds: float = STEP_SECONDS) -> None:
        self.threads = threads or max(LEAST_THREADS, min(MOST_THREADS, len(os.sched_getaffinity(0)) + 1))
        self._step_seconds = step_seconds
        self.turns = Turns(self.threads)
        self._turns_on_loop = Turns(1)
        self._pool = ThreadPoolExecutor(self.threads, "preparation")

    async def run(self, caller: str, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Return what `work` returns in a thread. Raises what it raises, and Unavailable when it does not end.

        When the task is cancelled, the caller's turn lasts until the thread is free again: threads can't be stopped.
        """
        await self.turns.begin(caller)
        loop, over = asyncio.get_running_loop(), False

        def end_turn() -> None:
            nonlocal over
            if not over:
                over = True
                self.turns.end(caller)

        done = self._pool.submit(partial(work, *arguments, **named))
        done.add_done_callback(lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(end_turn))
        try:
            async with asyncio.timeout(self._step_seconds):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            if not done.done():
                self._abandon_pool()
            end_turn()
            raise Unavailable("the request took too long to prepare, please try again") from None

    async def turn_on_loop(self, caller: str) -> None:
        """Wait until the caller may do a step of a few milliseconds on the loop itself, right after this returns.

        There is one such turn each time around the loop, which looks at everything else in between.
        """
        await self._turns_on_loop.begin(caller)
        asyncio.get_running_loop().call_soon(self._turns_on_loop.end, caller)

    def _abandon_pool(self) -> None:
        """Leave a thread that does not end to itself, and use new ones."""
        logger.error(
            "a step of preparing a request has not ended after %g s: its thread is given up", self._step_seconds
        )
        self._pool.shutdown(wait=False)
        self._pool = ThreadPoolExecutor(self.threads, "preparation")
