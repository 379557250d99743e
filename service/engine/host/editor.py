"""The host's answers to web workers that create, copy, pull and delete models and upload their files.

One edit at a time: what an edit decides by what is there must still hold when it writes. An edit that has begun is
finished whether its client stays or not. A pull ends with the last client that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from ...errors import ServiceError
from ...models.catalog import Catalog
from ...models.inspection import describe
from ...models.library import Library
from ...models.model import Model
from ...protocol.commands import Command, Copy, Create, Delete, DropBlob, FindBlob, Pull, PutBlob
from ...protocol.events import Blob, Done, Event, Progress
from ...syntax.names import ModelName
from ..hub.pulls import Hub, Snapshot
from ..listener import Handler

HOUR_SECONDS = 3600.0


class Editor:
    """Keeps `catalog`, which the host serves from, in step with `library`, which is on disk.

    It answers the commands of `handlers`; each may raise what the library and the hub raise. `forget` is called with
    each model that was deleted, or replaced by another one of its name.
    """

    def __init__(
        self, catalog: Catalog, library: Library, hub: Hub, forget: Callable[[Model], Awaitable[None]]
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._hub = hub
        self._forget = forget
        self._editing = asyncio.Lock()
        self.handlers: dict[type[Command], Handler] = {
            FindBlob: self._find_blob,
            PutBlob: self._put_blob,
            DropBlob: self._drop_blob,
            Pull: self._pull,
            Create: self._create,
            Copy: self._copy,
            Delete: self._delete,
        }

    async def expire_hourly(self) -> None:
        """Remove uploaded files of which no model was made within a day, once an hour. No edit runs meanwhile."""
        while True:
            await asyncio.sleep(HOUR_SECONDS)
            async with self._editing:
                await asyncio.to_thread(self._library.expire)

    async def _find_blob(self, command: FindBlob) -> AsyncGenerator[Event, None]:
        yield Blob(command.id, self._library.blobs.has(command.digest))

    async def _put_blob(self, command: PutBlob) -> AsyncGenerator[Event, None]:
        arguments = command.upload, command.digest, command.data, command.last
        yield Blob(command.id, await asyncio.to_thread(self._library.blobs.put, *arguments))

    async def _drop_blob(self, command: DropBlob) -> AsyncGenerator[Event, None]:
        self._library.blobs.drop(command.upload)
        yield Done(command.id)

    async def _create(self, command: Create) -> AsyncGenerator[Event, None]:
        await self._to_the_end(self._make(command))
        for digest in sorted({*command.recipe.files.values(), *command.recipe.adapters.values()}):
            yield Progress(command.id, f"using existing layer {digest}")
        for status in ("writing manifest", "success"):
            yield Progress(command.id, status)
        yield Done(command.id)

    async def _copy(self, command: Copy) -> AsyncGenerator[Event, None]:
        await self._to_the_end(self._duplicate(command))
        yield Done(command.id)

    async def _delete(self, command: Delete) -> AsyncGenerator[Event, None]:
        await self._to_the_end(self._remove(command))
        yield Done(command.id)

    async def _to_the_end(self, edit: Coroutine[Any, Any, None]) -> None:
        """Finish an edit after those that came before it, even when the client that asked for it leaves."""

        async def alone() -> None:
            async with self._editing:
                await edit

        await asyncio.shield(asyncio.create_task(alone()))

    async def _make(self, command: Create) -> None:
        recipe = command.recipe
        base = self._catalog.find(recipe.base) if recipe.base else None
        await self._put(await asyncio.to_thread(self._library.create, ModelName.parse(command.model), recipe, base))

    async def _duplicate(self, command: Copy) -> None:
        source, name = self._catalog.find(command.source), ModelName.parse(command.destination)
        await self._put(await asyncio.to_thread(self._library.copy, source, name))

    async def _remove(self, command: Delete) -> None:
        name = ModelName.parse(command.model)
        model = None if self._catalog.leaves_out(name) else self._catalog.find(command.model)
        name = model.name if model else name
        manifest = await asyncio.to_thread(self._library.delete, name)
        self._catalog.remove(name)
        if model is not None:
            await self._forget(model)
        if manifest.downloaded and not self._library.holds(manifest.repository, manifest.revision):
            await self._hub.remove(manifest.repository, manifest.revision)

    async def _put(self, model: Model) -> None:
        before = self._catalog.get(model.name)
        self._catalog.put(model, await asyncio.to_thread(describe, model))
        if before is not None:
            await self._forget(before)

    async def _pull(self, command: Pull) -> AsyncGenerator[Event, None]:
        yield Progress(command.id, "pulling manifest")
        name = ModelName.parse(command.model)
        origin = self._library.origin(name)
        if origin is not None:
            async with aclosing(self._hub.pull(*origin)) as parts:
                async for part in parts:
                    if isinstance(part, Snapshot):
                        yield Progress(command.id, "writing manifest")
                        await self._to_the_end(self._pulled(name, origin[0], part))
                    else:
                        status = f"pulling {part.digest.removeprefix('sha256:')[:12]}"
                        yield Progress(command.id, status, part.digest, part.total, part.completed)
        yield Progress(command.id, "success")
        yield Done(command.id)

    async def _pulled(self, name: ModelName, repository: str, snapshot: Snapshot) -> None:
        try:
            made = await asyncio.to_thread(self._library.pulled, name, repository, snapshot.commit, snapshot.downloaded)
        except ServiceError:
            if snapshot.downloaded and not self._library.holds(repository, snapshot.commit):
                await self._hub.remove(repository, snapshot.commit)
            raise
        if made is not None:
            await self._put(made)
