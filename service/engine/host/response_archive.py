"""The host's answers to web workers that store responses, fetch them and drop them.

In: commands. Out: events. The files are `store.responses`; what takes time on disk runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ...protocol.commands import Command, DropResponse, FetchResponse, StoreResponse
from ...protocol.events import Done, Event, StoredResponse
from ...store.responses import Responses
from ..listener import Handler

DAY_SECONDS = 24 * 60 * 60


class ResponseArchive:
    """Answers the commands of `handlers`. Each may raise what `Responses` raises."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses
        self.handlers: dict[type[Command], Handler] = {
            StoreResponse: self._store,
            FetchResponse: self._fetch,
            DropResponse: self._drop,
        }

    async def prune_daily(self) -> None:
        """Remove what is too old, at once and once a day."""
        while True:
            await asyncio.to_thread(self._responses.prune)
            await asyncio.sleep(DAY_SECONDS)

    async def _store(self, command: StoreResponse) -> AsyncGenerator[Event, None]:
        await asyncio.to_thread(self._responses.store, command.response, command.owner, command.data)
        yield Done(command.id)

    async def _fetch(self, command: FetchResponse) -> AsyncGenerator[Event, None]:
        yield StoredResponse(
            command.id, await asyncio.to_thread(self._responses.fetch, command.response, command.owner)
        )

    async def _drop(self, command: DropResponse) -> AsyncGenerator[Event, None]:
        await asyncio.to_thread(self._responses.drop, command.response, command.owner)
        yield Done(command.id)
