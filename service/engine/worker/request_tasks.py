"""The requests that run in one worker: count them, end them, and tell the host how many there are.

In: the task of each request. Out: an Activity when a count changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import Drained, EngineGoingDown
from ...protocol.reports import Activity

# So many requests may have ended without the host knowing, or this part of those that run. It is half of what makes
# the host send a conversation to another replica (MORE_SEQUENCES and MORE_PART in host/routing.py).
UNTOLD_ENDS = 2
UNTOLD_PART = 0.125


class RequestTasks:
    """`report` sends an Activity to the host."""

    def __init__(self, report: Callable[[Activity], None]) -> None:
        self._report = report
        # The sequences of each.
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._begun = self._sequences = self._untold_ends = 0
        self._last = Activity(0, 0)
        self._is_ending = False

    @contextmanager
    def with_this(self, sequences: int) -> Iterator[None]:
        """Count the current task as a running request of so many sequences.

        The host is told when the first one begins, when the last one ends, and when several have ended. Raises Drained
        in a request that is cancelled because the worker must end.
        """
        task = asyncio.current_task()
        assert task is not None
        self._begun += 1
        self._tasks[task] = sequences
        self._sequences += sequences
        if len(self._tasks) == 1:
            self.tell()
        try:
            yield
        except asyncio.CancelledError:
            if self._is_ending:
                raise Drained.by(EngineGoingDown()) from None
            raise
        finally:
            self._sequences -= self._tasks.pop(task)
            self._untold_ends += 1
            if not self._tasks or self._untold_ends >= max(UNTOLD_ENDS, UNTOLD_PART * len(self._tasks)):
                self.tell()

    def tell(self) -> None:
        """Report the counts, if they have changed."""
        self._untold_ends = 0
        now = Activity(self._begun, self._sequences)
        if now != self._last:
            self._last = now
            self._report(now)

    def end(self) -> bool:
        """Begin to end all of them with an error. Return whether there are any."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        return bool(self._tasks)
