"""The host's answers to those who create, copy, pull and delete models and upload their files.

One edit at a time: what it decides by what is there must still be so when it writes. An edit that has begun is done
whether its client stays or not; a pull ends with the last client that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from ...errors import BadRequest
from ...models.catalog import Catalog
from ...models.inspection import describe
from ...models.library import Library
from ...models.model import Model
from ...protocol.commands import Command, Copy, Create, Delete, DropBlob, FindBlob, Pull, PutBlob
from ...protocol.events import Blob, Done, Event, Progress
from ...syntax.names import ModelName
from ..hub.pulls import Hub, Snapshot


class Editor:
    """Keeps `store`, which the host serves from, in step with `library`, which is on disk.

    `forget` is told each model that is gone, or has become another one under its name.
    """

    def __init__(self, store: Catalog, library: Library, hub: Hub, forget: Callable[[Model], Awaitable[None]]) -> None:
        self._store = store
        self._library = library
        self._hub = hub
        self._forget = forget
        self._editing = asyncio.Lock()

    async def answer(self, command: Command) -> AsyncGenerator[Event, None]:
        """Raises BadRequest for what is no edit, and what the library and the hub raise."""
        if isinstance(command, FindBlob):
            yield Blob(command.id, self._library.blobs.path(command.digest).is_file())
        elif isinstance(command, PutBlob):
            arguments = command.upload, command.digest, command.data, command.last
            yield Blob(command.id, await asyncio.to_thread(self._library.blobs.put, *arguments))
        elif isinstance(command, DropBlob):
            self._library.blobs.drop(command.upload)
            yield Done(command.id)
        elif isinstance(command, Pull):
            async with aclosing(self._pull(command)) as events:
                async for event in events:
                    yield event
        elif isinstance(command, Create):
            await self._to_the_end(self._create(command))
            for digest in sorted({*command.recipe.files.values(), *command.recipe.adapters.values()}):
                yield Progress(command.id, f"using existing layer {digest}")
            for status in ("writing manifest", "success"):
                yield Progress(command.id, status)
            yield Done(command.id)
        elif isinstance(command, Copy | Delete):
            await self._to_the_end(self._copy(command) if isinstance(command, Copy) else self._delete(command))
            yield Done(command.id)
        else:
            raise BadRequest(f"the engine host does not answer {type(command).__name__}")

    async def _to_the_end(self, edit: Coroutine[Any, Any, None]) -> None:
        async def alone() -> None:
            async with self._editing:
                await edit

        await asyncio.shield(asyncio.create_task(alone()))

    async def _create(self, command: Create) -> None:
        recipe = command.recipe
        base = self._store.find(recipe.base) if recipe.base else None
        await self._put(await asyncio.to_thread(self._library.create, ModelName.parse(command.model), recipe, base))

    async def _copy(self, command: Copy) -> None:
        source, name = self._store.find(command.source), ModelName.parse(command.destination)
        await self._put(await asyncio.to_thread(self._library.copy, source, name))

    async def _delete(self, command: Delete) -> None:
        model = self._store.find(command.model)
        manifest = await asyncio.to_thread(self._library.delete, model.name)
        self._store.remove(model.name)
        await self._forget(model)
        if manifest.downloaded and not self._library.holds(manifest.repository, manifest.revision):
            await self._hub.remove(manifest.repository, manifest.revision)

    async def _put(self, model: Model) -> None:
        before = self._store.get(model.name)
        self._store.put(model, await asyncio.to_thread(describe, model))
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
        made = await asyncio.to_thread(self._library.pulled, name, repository, snapshot.commit, snapshot.downloaded)
        if made is not None:
            await self._put(made)
