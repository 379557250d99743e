"""What a handler or an engine emits, as an iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from service.engine.listener import Emit


async def pushed(answer: Callable[[Emit], Awaitable[None]]) -> AsyncGenerator[Any, None]:
    """Yield each event that is emitted, and raise what the answer raises. Closing the iterator cancels the answer."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.ensure_future(answer(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
