"""One thing for each process: a child that is forked makes its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes a thing when it is first used. Threads, locks and connections of the parent do not survive a fork."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def get(self) -> T:
        """Return this process' thing; callers that come while it is made wait for it. Raises what `make` raises."""
        if not self._made:
            # The lock is made here: gunicorn's master may load the application before gevent patches the worker.
            with self._locks.setdefault("making", threading.Lock()):
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    def _forget(self) -> None:
        self._made: list[T] = []
        self._locks: dict[str, threading.Lock] = {}
