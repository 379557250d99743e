"""Wake all tasks that wait for a change."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes everyone who waits, each time it is rung."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def rung(self) -> None:
        await self._next.wait()
