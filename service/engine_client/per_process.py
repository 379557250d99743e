"""The one guard against forks: an object for each process, made at its first use.

Threads, locks and connections of a parent are useless in its child. In: a function that makes such an object. Out: the
object of the current process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

# Held weakly: a fork hook can't be taken back.
_all: WeakSet[PerProcess[Any]] = WeakSet()


class PerProcess(Generic[T]):
    """Makes an object when it is first used in a process."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.forget()
        _all.add(self)

    def get(self) -> T:
        """Return the object of this process. Callers wait while it is made. Raises what `make` raises."""
        if not self._made:
            # The lock is made here: gunicorn's master may load the application before gevent patches the worker.
            with self._locks.setdefault("making", threading.Lock()):
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    def forget(self) -> None:
        """Begin without an object. Waits for no lock, since the thread that holds it may not run in this process."""
        self._made: list[T] = []
        self._locks: dict[str, threading.Lock] = {}


def _forget_all() -> None:
    for each in list(_all):
        each.forget()


os.register_at_fork(after_in_child=_forget_all)
