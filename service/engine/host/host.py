"""The engine host: the control plane. One process a machine; asyncio; loads no model and imports no torch itself.

`python -m service.engine.host` serves the control socket that `VLLM_WSGI_ENGINE_SOCKET` names; the workers' data
sockets stand in the same directory, so its permissions decide who may come in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

from ...config import Settings
from ...errors import EngineGoingDown, ServerBusy, ServiceError, SettingsError
from ...models.catalog import Catalog
from ...models.declaration import declared_models
from ...models.inspection import tensors, tokens
from ...models.library import Library, store_directory
from ...models.model import Model
from ...protocol.commands import (
    Check,
    Command,
    Count,
    DropResponse,
    FetchResponse,
    ListLoaded,
    ListModels,
    Locate,
    Measure,
    ShowModel,
    StoreResponse,
    Unload,
)
from ...protocol.events import Checked, Event, Loaded, Located, Measured, Models, Shown, Unloaded
from ...store.responses import Responses
from ..bell import Bell
from ..hub.pulls import Hub
from ..listener import listen
from .editor import Editor
from .metrics import UNKNOWN, Metrics
from .residency import Limits, Residency, Resident
from .supervisor import EngineSupervisor
from .systemd import TELL_SECONDS, SystemdNotifier

logger = logging.getLogger("vllm_wsgi.host")

# A Unix socket's path has at most 107 bytes (unix(7)); the workers' own names take some.
MAX_DIRECTORY_BYTES = 107 - len("/worker-99999.sock")


class Host:
    """The models of the catalog, and a supervisor for each engine that they need; the residency decides."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = Path(settings.engine_socket)
        if len(os.fsencode(self._path.parent)) > MAX_DIRECTORY_BYTES:
            raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={self._path}: its directory's path is too long for sockets")
        declared, hub = declared_models(settings), Hub()
        directory = store_directory(settings.store)
        library = Library(directory, declared, hub.directory)
        self._store = Catalog(declared + library.models())
        self._editor = Editor(self._store, library, hub, self._forget)
        self._responses = Responses(directory, settings.responses_days, settings.max_body)
        self._stirred = Bell()
        self._supervisors: dict[tuple[str, ...], EngineSupervisor] = {}
        self._residency = Residency(Limits(settings.max_loaded, settings.max_memory))
        # First come, first loaded: who waits for room is not overtaken by who needs less of it.
        self._making_room = asyncio.Lock()
        self._queued: dict[EngineSupervisor, asyncio.Task[None]] = {}
        self._metrics = Metrics()
        self._draining = False

    def _supervisor(self, model: Model) -> EngineSupervisor:
        """That of the model's engine, made if it is the first model that needs it."""
        if model.engine not in self._supervisors:
            engine = self._supervisors[model.engine] = self._new_supervisor(model)
            self._residency.add(engine.resident)
        return self._supervisors[model.engine]

    def _new_supervisor(self, model: Model) -> EngineSupervisor:
        weights = self._store.info(model).size
        # Until it has been loaded once, all that is known of its KV cache is what the operator wants.
        memory = model.memory or weights + int(model.engine_args.get("kv_cache_memory_bytes") or 0)
        resident = Resident(model.name.short, self._keep_alive(model), model.pinned, memory)
        return EngineSupervisor(self._settings, model, weights, self._path.parent, resident, self._stirred.ring)

    def _keep_alive(self, model: Model) -> float:
        return self._settings.keep_alive if model.keep_alive is None else model.keep_alive

    @property
    def directory(self) -> Path:
        return self._path.parent

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await listen(str(self._path), self._handle)
        for model in self._store.models():
            if model.pinned:
                engine = self._supervisor(model)
                engine.resident.pinned = True
                engine.serve(self._store.info(model))
                engine.load(self._keep_alive(model))
        notifier = SystemdNotifier()
        chores = self._clear(), self._responses.prune_daily(), notifier.inform(self._pinned_states)
        tasks = [asyncio.create_task(chore) for chore in chores]
        await stop.wait()
        notifier.stopping()
        for task in tasks:
            task.cancel()
        await self._drain(notifier)
        server.close()
        await asyncio.gather(*(engine.unload() for engine in self._supervisors.values()))
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _drain(self, notifier: SystemdNotifier) -> None:
        """Until nothing runs any more, or for as long as the setting says. What waits for a model is refused."""
        self._draining = True
        for engine in self._supervisors.values():
            if engine.state != "ready":
                engine.leave()
        self._stirred.ring()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain):
                while any(engine.resident.in_use for engine in self._supervisors.values()):
                    notifier.alive()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.rung(), TELL_SECONDS)

    def _pinned_states(self) -> dict[str, str]:
        return {engine.resident.name: engine.state for engine in self._supervisors.values() if engine.resident.pinned}

    async def _handle(self, command: Command) -> AsyncGenerator[Event, None]:
        if isinstance(command, Locate):
            began = time.monotonic_ns()
            model = self._store.find(command.model)
            path = await self._located(model, command)
            capabilities = self._store.info(model).capabilities
            yield Located(command.id, path, time.monotonic_ns() - began, capabilities, model.defaults)
        elif isinstance(command, Unload):
            await self._dismiss(self._supervisor(self._store.find(command.model)))
            yield Unloaded(command.id)
        elif isinstance(command, ListModels):
            yield Models(command.id, [self._store.info(model) for model in self._store.models()])
        elif isinstance(command, ListLoaded):
            supervisors = [engine for engine in self._supervisors.values() if engine.state != "idle"]
            yield Loaded(command.id, [loaded for engine in supervisors for loaded in engine.loaded()])
        elif isinstance(command, ShowModel):
            yield await self._show(command)
        elif isinstance(command, StoreResponse | FetchResponse | DropResponse):
            yield await self._responses.answer(command)
        elif isinstance(command, Check):
            yield Checked(command.id, self._trouble())
        elif isinstance(command, Measure):
            states = [engine.measured() for engine in self._supervisors.values()]
            # By name: of two engines of one, as a model that is made anew has for a moment, the last is asked.
            sockets = {engine.resident.name: engine.socket for engine in self._supervisors.values() if engine.socket}
            yield Measured(command.id, self._metrics.text(states), list(sockets.values()))
        elif isinstance(command, Count):
            for ended in command.ended:
                self._metrics.count(ended, self._known(ended.model))
        else:
            async with aclosing(self._editor.answer(command)) as events:
                async for event in events:
                    yield event

    def _trouble(self) -> str:
        """Why no request should come now; empty where one may: a pinned model is ready, or any other can be had."""
        if self._draining:
            return EngineGoingDown().message
        pinned = [engine for engine in self._supervisors.values() if engine.resident.pinned]
        if not pinned and self._engines() - self._supervisors.keys():
            return ""
        troubles = [engine.trouble() for engine in pinned or self._supervisors.values()]
        return "" if not all(troubles) else "; ".join(troubles) or "there is no model"

    def _known(self, name: str) -> str:
        """The name that the model has; what clients call something that is none can be anything."""
        try:
            return self._store.find(name).name.short if name else ""
        except ServiceError:
            return UNKNOWN

    async def _show(self, command: ShowModel) -> Models | Shown:
        model = self._store.find(command.model)
        info = self._store.info(model)
        if not command.verbose:
            return Models(command.id, [info])
        return Shown(command.id, info, *await asyncio.to_thread(lambda: (tensors(model), tokens(model))))

    async def _located(self, model: Model, command: Locate) -> str:
        """The data socket of the model, once it is loaded.

        Raises Unavailable where it can't be, or where too many wait: of this caller, so that he keeps no other one out.
        """
        engine = self._supervisor(model)
        if 0 < self._settings.max_queue <= engine.resident.waiting_of(command.caller):
            raise ServerBusy
        try:
            with engine.resident.awaited(command.caller):
                while (path := self._data_socket(engine)) is None:
                    await (self._load(engine, self._keep_alive(model)) if engine.state == "idle" else engine.changed())
                    engine.serve(self._store.info(model))
                engine.serve(self._store.info(model))
                engine.resident.send(command.keep_alive, command.submits)
        finally:
            self._stirred.ring()
        return path

    def _data_socket(self, engine: EngineSupervisor) -> str | None:
        """As the engine says; raises Unavailable when the host has been told to end."""
        if self._draining:
            raise EngineGoingDown
        return engine.data_socket()

    async def _dismiss(self, engine: EngineSupervisor) -> None:
        """Unload it as soon as it is idle; returns when it is gone, or at once where it is in use."""
        engine.resident.dismiss()
        if not engine.resident.in_use:
            await engine.unload()

    async def _load(self, engine: EngineSupervisor, keep_alive: float) -> None:
        """Until the model begins to be loaded, for which everyone who asks for it waits together.

        Each for himself, those who queue for the lock behind another model's load would keep theirs busy, and that
        load, which waits for it to be idle, would wait for ever. Raises Unavailable.
        """
        queued = self._queued.get(engine)
        if queued is None:
            queued = self._queued[engine] = asyncio.create_task(self._make_room(engine, keep_alive))
            queued.add_done_callback(lambda _: self._queued.pop(engine))
        await asyncio.shield(queued)

    async def _make_room(self, engine: EngineSupervisor, keep_alive: float) -> None:
        """Load the model as soon as there is room, unless nobody waits for it any more; Unavailable: not in time."""
        try:
            async with asyncio.timeout(self._settings.load_timeout), self._making_room:
                while engine.resident.waiting and self._data_socket(engine) is None and engine.state == "idle":
                    if self._residency.has_room(engine.resident):
                        engine.load(keep_alive)
                        return
                    self._unload(self._residency.victims(engine.resident))
                    await self._stirred.rung()
        except TimeoutError:
            raise ServerBusy from None

    async def _clear(self) -> None:
        """Unload whose time is up, for as long as the host lives."""
        while True:
            self._unload(self._residency.overdue())
            self._drop_orphans()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._residency.next_due()):
                    await self._stirred.rung()
                continue
            # What was not idle may be by now, which a load may be waiting for.
            self._stirred.ring()

    def _unload(self, residents: list[Resident]) -> None:
        for engine in self._supervisors.values():
            if engine.resident in residents:
                logger.info("%s is unloaded", engine.resident.name)
                engine.leave()

    async def _forget(self, model: Model) -> None:
        """A model that is no more, or another one by now: its engine goes when it is idle, unless others need it."""
        if self._store.get(model.name) is None:
            self._metrics.forget(model.name.short)
        engine = self._supervisors.get(model.engine)
        if engine is not None:
            engine.served.pop(model.name.key, None)
            if model.engine not in self._engines():
                await self._dismiss(engine)
        self._stirred.ring()

    def _engines(self) -> set[tuple[str, ...]]:
        return {model.engine for model in self._store.models()}

    def _drop_orphans(self) -> None:
        """The supervisors of engines that no model needs, once nothing runs in them."""
        for key in self._supervisors.keys() - self._engines():
            engine = self._supervisors[key]
            if engine.state == "idle" and not engine.resident.in_use:
                self._residency.remove(self._supervisors.pop(key).resident)
