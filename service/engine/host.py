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
from ..errors import BadRequest
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
from .lifeline import die_with_parent
from .peer import listen
from .slot import Slot
from .store import Store, describe

logger = logging.getLogger("vllm_wsgi.host")


# A Unix socket's path has at most 107 bytes (unix(7)); the workers' own names take some.
MAX_DIRECTORY_BYTES = 107 - len("/worker-99999.sock")


class Host:
    """A slot for each model of the store."""

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.engine_socket)
        if len(os.fsencode(self._path.parent)) > MAX_DIRECTORY_BYTES:
            raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={self._path}: its directory's path is too long for sockets")
        store = Store.from_settings(settings)
        self._store = store
        self._slots = {
            model.name.key: Slot(settings, model, describe(model), self._path.parent) for model in store.models()
        }

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
            slot.load()
        await stop.wait()
        server.close()
        await asyncio.gather(*(slot.unload() for slot in self._slots.values()))
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _answer(self, command: Command) -> AsyncGenerator[Event, None]:
        if isinstance(command, Locate):
            began = time.monotonic_ns()
            slot = self._slot(command.model)
            path = await slot.located()
            yield Located(command.id, path, time.monotonic_ns() - began, slot.info.capabilities)
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
        return self._slots[self._store.find(name).name.key]


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
