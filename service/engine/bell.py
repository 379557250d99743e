"""Wake all tasks that wait for a change."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """Each ring wakes all tasks that wait at that moment."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def rung(self) -> None:
        """Wait for the next ring."""
        await self._next.wait()

    async def rung_within(self, seconds: float | None) -> bool:
        """Wait for the next ring, for `seconds` at most; return whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.rung()
                return True
        return False
