"""Gives the other requests of a process their turn while a long list of a body is read.

A web worker is one thread for many clients. A body may hold tens of thousands of objects, and to read all of them in
one piece takes some tenths of a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

# To read so many small objects takes about five milliseconds.
AT_ONCE = 500


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """Yield the items. After each AT_ONCE of them, other requests get their turn."""
    for number, item in enumerate(items, 1):
        yield item
        if number % AT_ONCE == 0:
            give_turn()


def give_turn() -> None:
    """Let other requests run that are ready: other greenlets where gevent has patched `time`, else other threads."""
    time.sleep(0)
