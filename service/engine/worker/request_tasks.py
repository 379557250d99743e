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

# How long the host may believe in a count that has changed.
ACTIVITY_SECONDS = 0.2


class RequestTasks:
    """`report` sends an Activity to the host."""

    def __init__(self, report: Callable[[Activity], None]) -> None:
        self._report = report
        # The sequences of each.
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._begun = self._sequences = 0
        self._last = Activity(0, 0)
        self._due: asyncio.TimerHandle | None = None
        self._is_ending = False

    @contextmanager
    def with_this(self, sequences: int) -> Iterator[None]:
        """Count the current task as a running request of so many sequences.

        The host is told at once when the first one begins and when the last one ends, and of other changes within
        ACTIVITY_SECONDS. Raises Drained in a request that is cancelled because the worker must end.
        """
        task = asyncio.current_task()
        assert task is not None
        self._begun += 1
        self._tasks[task] = sequences
        self._sequences += sequences
        self._note(at_once=len(self._tasks) == 1)
        try:
            yield
        except asyncio.CancelledError:
            if self._is_ending:
                raise Drained.by(EngineGoingDown()) from None
            raise
        finally:
            self._sequences -= self._tasks.pop(task)
            self._note(at_once=not self._tasks)

    def end(self) -> bool:
        """Begin to end all of them with an error. Return whether there are any."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        return bool(self._tasks)

    def _note(self, at_once: bool) -> None:
        if at_once:
            self._tell()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(ACTIVITY_SECONDS, self._tell)

    def _tell(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        now = Activity(self._begun, self._sequences)
        if now != self._last:
            self._last = now
            self._report(now)
