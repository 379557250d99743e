"""How often the tokens of many streams leave: together, on a beat that slows down as streams are added.

A token costs its share of a wake-up, a message and a write, and all of these are the same for two tokens. So while
many streams are open each is told what has come since the last beat. With few there is no beat, and no token waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# So many streams cost little enough one token at a time.
FREE_STREAMS = 8
STREAM_SECONDS = 0.0004
# An answer in pieces twenty times a second still flows.
LONGEST_SECONDS = 0.05


class Pace:
    """Of one engine."""

    def __init__(self) -> None:
        self._streams = 0
        self._beat: asyncio.Event | None = None

    @property
    def seconds(self) -> float:
        """From one beat to the next; 0: there is none."""
        return min(LONGEST_SECONDS, max(0, self._streams - FREE_STREAMS) * STREAM_SECONDS)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Around all that a stream brings."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def wait(self) -> None:
        """After something has been told, and before what comes next is: until the beat."""
        if not self.seconds:
            return
        if self._beat is None:
            self._beat = asyncio.Event()
            asyncio.get_running_loop().call_later(self.seconds, self._strike)
        await self._beat.wait()

    def _strike(self) -> None:
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.set()
