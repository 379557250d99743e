"""The way of a delta past its stream's own thread: the thread that reads the queue passes it on at once.

A wake-up for each token of each stream costs more than everything else that the web tier does with a token.
"""

from __future__ import annotations

from typing import Protocol

from ..protocol.events import Delta


class FastPath(Protocol):
    """Takes the deltas that come while the stream's own thread waits for events. At any other time none is offered.

    So whatever that thread works with, `take` may work with too.
    """

    def take(self, delta: Delta) -> bool:
        """Take a delta without blocking or raising. Return False where the stream's own thread has to `settle` it."""
        ...

    def settle(self) -> None:
        """Do what `take` could not. Runs in the stream's own thread, and may block. Raises what went wrong."""
        ...
