"""Asynchronous tests without a plugin, and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

# Far more than any test takes, for one that waits for what never comes.
LIMIT_SECONDS = 60
# More turns of the loop than any chain of callbacks in a test has.
TURNS = 50


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LIMIT_SECONDS))

    return run


async def settle() -> None:
    """Return when every task has gone as far as it can without time, sockets or threads."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
