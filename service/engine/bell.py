"""Wake all tasks that wait for a change."""

from __future__ import annotations

import asyncio


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
