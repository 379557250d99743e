"""The engine host: the control plane. One process a machine; asyncio; loads no model and imports no torch itself.

`python -m service.engine.host` serves the control socket that `VLLM_WSGI_ENGINE_SOCKET` names; the workers' data
sockets stand in the same directory, so its permissions decide who may come in.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from ..config import Settings, SettingsError
from ..errors import BadRequest, Unavailable
from ..keep_alive import parse_server_keep_alive
from ..messages import (
    Command,
    Event,
    ListLoaded,
    ListModels,
    Loaded,
    Locate,
    Located,
    Models,
    ShowModel,
    Unload,
    Unloaded,
)
from .admission import BUSY
from .declaration import Model
from .lifeline import die_with_parent
from .peer import listen
from .residency import Limits, Residency, Resident
from .slot import Bell, Slot
from .store import Store, describe

logger = logging.getLogger("vllm_wsgi.host")


# A Unix socket's path has at most 107 bytes (unix(7)); the workers' own names take some.
MAX_DIRECTORY_BYTES = 107 - len("/worker-99999.sock")


class Host:
    """A slot for each model of the store; the residency says who of them may be loaded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = Path(settings.engine_socket)
        if len(os.fsencode(self._path.parent)) > MAX_DIRECTORY_BYTES:
            raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={self._path}: its directory's path is too long for sockets")
        self._store = Store.from_settings(settings)
        self._stirred = Bell()
        self._slots = {model.name.short: self._new_slot(model) for model in self._store.models()}
        limits = Limits(settings.max_loaded, settings.max_memory)
        self._residency = Residency([slot.resident for slot in self._slots.values()], limits)
        # First come, first loaded: who waits for room is not overtaken by who needs less of it.
        self._making_room = asyncio.Lock()
        self._queued: dict[Slot, asyncio.Task[None]] = {}

    def _new_slot(self, model: Model) -> Slot:
        info = describe(model)
        keep_alive = model.keep_alive
        if keep_alive is None:
            keep_alive = parse_server_keep_alive(self._settings.keep_alive)
        # Until it has been loaded once, all that is known of its KV cache is what the operator wants.
        memory = model.memory or info.size + int(model.engine_args.get("kv_cache_memory_bytes") or 0)
        resident = Resident(model.name.short, keep_alive, model.pinned, memory)
        return Slot(self._settings, model, info, self._path.parent, resident, self._stirred.ring)

    @property
    def directory(self) -> Path:
        return self._path.parent

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await listen(str(self._path), self._answer)
        for slot in self._slots.values():
            if slot.model.pinned:
                slot.load()
        clearing = asyncio.create_task(self._clear())
        await stop.wait()
        clearing.cancel()
        server.close()
        await asyncio.gather(*(slot.unload() for slot in self._slots.values()))
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _answer(self, command: Command) -> AsyncGenerator[Event, None]:
        if isinstance(command, Locate):
            began = time.monotonic_ns()
            path = await self._located(command)
            capabilities = self._slot(command.model).info.capabilities
            yield Located(command.id, path, time.monotonic_ns() - began, capabilities)
        elif isinstance(command, Unload):
            await self._slot(command.model).unload()
            yield Unloaded(command.id)
        elif isinstance(command, ListModels):
            yield Models(command.id, [slot.info for slot in self._slots.values()])
        elif isinstance(command, ListLoaded):
            yield Loaded(command.id, [slot.loaded() for slot in self._slots.values() if slot.state != "idle"])
        elif isinstance(command, ShowModel):
            yield Models(command.id, [self._slot(command.model).info])
        else:
            raise BadRequest(f"the engine host does not answer {type(command).__name__}")

    def _slot(self, name: str) -> Slot:
        return self._slots[self._store.find(name).name.short]

    async def _located(self, command: Locate) -> str:
        """The data socket of the model, once it is loaded. Raises Unavailable where it can't be, or too many wait."""
        slot = self._slot(command.model)
        if 0 < self._settings.max_queue <= slot.resident.waiting:
            raise Unavailable(BUSY)
        try:
            with slot.resident.awaited():
                while (path := slot.place()) is None:
                    await (self._load(slot) if slot.state == "idle" else slot.changed())
                slot.resident.send(command.keep_alive, command.submits)
        finally:
            self._stirred.ring()
        return path

    async def _load(self, slot: Slot) -> None:
        """Until the model begins to be loaded, for which everyone who asks for it waits together.

        Each for himself, those who queue for the lock behind another model's load would keep theirs busy, and that
        load, which waits for it to be idle, would wait for ever. Raises Unavailable.
        """
        queued = self._queued.get(slot)
        if queued is None:
            queued = self._queued[slot] = asyncio.create_task(self._make_room(slot))
            queued.add_done_callback(lambda _: self._queued.pop(slot))
        await asyncio.shield(queued)

    async def _make_room(self, slot: Slot) -> None:
        """Load the model as soon as there is room, unless nobody waits for it any more; Unavailable: not in time."""
        try:
            async with asyncio.timeout(self._settings.load_timeout), self._making_room:
                while slot.resident.waiting and slot.place() is None and slot.state == "idle":
                    if self._residency.has_room(slot.resident):
                        slot.load()
                        return
                    self._unload(self._residency.victims(slot.resident))
                    await self._stirred.rung()
        except TimeoutError:
            raise Unavailable(BUSY) from None

    async def _clear(self) -> None:
        """Unload whose time is up, for as long as the host lives."""
        while True:
            self._unload(self._residency.overdue())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._residency.next_due()):
                    await self._stirred.rung()
                continue
            # What was not idle may be by now, which a load may be waiting for.
            self._stirred.ring()

    def _unload(self, residents: list[Resident]) -> None:
        for resident in residents:
            logger.info("%s is unloaded", resident.name)
            self._slots[resident.name].leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", type=int, help="end when this process, which started the host, ends")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine host: %(message)s", datefmt="%H:%M:%S")
    if arguments.parent:
        die_with_parent(signal.SIGTERM, arguments.parent)
    try:
        settings = Settings.from_env()
        if not settings.engine_socket:
            raise SettingsError("VLLM_WSGI_ENGINE_SOCKET must name the socket to listen on")
        host = Host(settings)
    except SettingsError as error:
        sys.exit(f"engine host: {error.message}")
    os.umask(0o007)
    try:
        asyncio.run(host.run())
    finally:
        if arguments.parent:
            # Made for us by a parent that may be gone.
            shutil.rmtree(host.directory, ignore_errors=True)


if __name__ == "__main__":
    main()
