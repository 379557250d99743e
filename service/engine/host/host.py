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
from ...errors import BUSY, ServiceError, SettingsError, Unavailable
from ...models.catalog import Store
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
from ...syntax.durations import parse_server_keep_alive
from ..bell import Bell
from ..hub.pulls import Hub
from ..listener import listen
from .editor import Editor
from .metrics import UNKNOWN, Metrics
from .residency import Limits, Residency, Resident
from .supervisor import Slot
from .systemd import TELL_SECONDS, Supervisor

logger = logging.getLogger("vllm_wsgi.host")


# A Unix socket's path has at most 107 bytes (unix(7)); the workers' own names take some.
MAX_DIRECTORY_BYTES = 107 - len("/worker-99999.sock")

GOING_DOWN = "the engine is going down, please try again"
# It takes longer to come back, but whoever asks again may hear of another one.
RETRY_SECONDS = 5


class Host:
    """The models of the store, and a slot for each engine that they need; the residency says which may be loaded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = Path(settings.engine_socket)
        if len(os.fsencode(self._path.parent)) > MAX_DIRECTORY_BYTES:
            raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={self._path}: its directory's path is too long for sockets")
        declared, hub = declared_models(settings), Hub()
        directory = store_directory(settings.store)
        library = Library(directory, declared, hub.directory)
        self._store = Store(declared + library.models())
        self._editor = Editor(self._store, library, hub, self._forget)
        self._responses = Responses(directory, settings.responses_days, settings.max_body)
        self._stirred = Bell()
        self._slots: dict[tuple[str, ...], Slot] = {}
        self._residency = Residency(Limits(settings.max_loaded, settings.max_memory))
        # First come, first loaded: who waits for room is not overtaken by who needs less of it.
        self._making_room = asyncio.Lock()
        self._queued: dict[Slot, asyncio.Task[None]] = {}
        self._metrics = Metrics()
        self._draining = False

    def _slot(self, model: Model) -> Slot:
        """That of the model's engine, made if it is the first model that needs it."""
        if model.engine not in self._slots:
            slot = self._slots[model.engine] = self._new_slot(model)
            self._residency.add(slot.resident)
        return self._slots[model.engine]

    def _new_slot(self, model: Model) -> Slot:
        weights = self._store.info(model).size
        # Until it has been loaded once, all that is known of its KV cache is what the operator wants.
        memory = model.memory or weights + int(model.engine_args.get("kv_cache_memory_bytes") or 0)
        resident = Resident(model.name.short, self._keep_alive(model), model.pinned, memory)
        return Slot(self._settings, model, weights, self._path.parent, resident, self._stirred.ring)

    def _keep_alive(self, model: Model) -> float:
        return parse_server_keep_alive(self._settings.keep_alive) if model.keep_alive is None else model.keep_alive

    @property
    def directory(self) -> Path:
        return self._path.parent

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await listen(str(self._path), self._answer)
        for model in self._store.models():
            if model.pinned:
                slot = self._slot(model)
                slot.resident.pinned = True
                slot.serve(self._store.info(model))
                slot.load(self._keep_alive(model))
        supervisor = Supervisor()
        chores = self._clear(), self._responses.prune_daily(), supervisor.inform(self._pinned_states)
        tasks = [asyncio.create_task(chore) for chore in chores]
        await stop.wait()
        supervisor.stopping()
        for task in tasks:
            task.cancel()
        await self._drain(supervisor)
        server.close()
        await asyncio.gather(*(slot.unload() for slot in self._slots.values()))
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _drain(self, supervisor: Supervisor) -> None:
        """Until nothing runs any more, or for as long as the setting says. What waits for a model is refused."""
        self._draining = True
        for slot in self._slots.values():
            if slot.state != "ready":
                slot.leave()
        self._stirred.ring()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain):
                while any(slot.resident.in_use for slot in self._slots.values()):
                    supervisor.alive()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.rung(), TELL_SECONDS)

    def _pinned_states(self) -> dict[str, str]:
        return {slot.resident.name: slot.state for slot in self._slots.values() if slot.resident.pinned}

    async def _answer(self, command: Command) -> AsyncGenerator[Event, None]:
        if isinstance(command, Locate):
            began = time.monotonic_ns()
            model = self._store.find(command.model)
            path = await self._located(model, command)
            capabilities = self._store.info(model).capabilities
            yield Located(command.id, path, time.monotonic_ns() - began, capabilities, model.defaults)
        elif isinstance(command, Unload):
            await self._dismiss(self._slot(self._store.find(command.model)))
            yield Unloaded(command.id)
        elif isinstance(command, ListModels):
            yield Models(command.id, [self._store.info(model) for model in self._store.models()])
        elif isinstance(command, ListLoaded):
            slots = [slot for slot in self._slots.values() if slot.state != "idle"]
            yield Loaded(command.id, [loaded for slot in slots for loaded in slot.loaded()])
        elif isinstance(command, ShowModel):
            yield await self._show(command)
        elif isinstance(command, StoreResponse | FetchResponse | DropResponse):
            yield await self._responses.answer(command)
        elif isinstance(command, Check):
            yield Checked(command.id, self._trouble())
        elif isinstance(command, Measure):
            states = [slot.measured() for slot in self._slots.values()]
            # By name: of two engines of one, as a model that is made anew has for a moment, the last is asked.
            sockets = {slot.resident.name: slot.socket for slot in self._slots.values() if slot.socket}
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
            return GOING_DOWN
        pinned = [slot for slot in self._slots.values() if slot.resident.pinned]
        if not pinned and self._engines() - self._slots.keys():
            return ""
        troubles = [slot.trouble() for slot in pinned or self._slots.values()]
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
        slot = self._slot(model)
        if 0 < self._settings.max_queue <= slot.resident.waiting_of(command.caller):
            raise Unavailable(BUSY)
        try:
            with slot.resident.awaited(command.caller):
                while (path := self._place(slot)) is None:
                    await (self._load(slot, self._keep_alive(model)) if slot.state == "idle" else slot.changed())
                    slot.serve(self._store.info(model))
                slot.serve(self._store.info(model))
                slot.resident.send(command.keep_alive, command.submits)
        finally:
            self._stirred.ring()
        return path

    def _place(self, slot: Slot) -> str | None:
        """As the slot says; raises Unavailable when the host has been told to end."""
        if self._draining:
            raise Unavailable(GOING_DOWN, RETRY_SECONDS)
        return slot.place()

    async def _dismiss(self, slot: Slot) -> None:
        """Unload it as soon as it is idle; returns when it is gone, or at once where it is in use."""
        slot.resident.dismiss()
        if not slot.resident.in_use:
            await slot.unload()

    async def _load(self, slot: Slot, keep_alive: float) -> None:
        """Until the model begins to be loaded, for which everyone who asks for it waits together.

        Each for himself, those who queue for the lock behind another model's load would keep theirs busy, and that
        load, which waits for it to be idle, would wait for ever. Raises Unavailable.
        """
        queued = self._queued.get(slot)
        if queued is None:
            queued = self._queued[slot] = asyncio.create_task(self._make_room(slot, keep_alive))
            queued.add_done_callback(lambda _: self._queued.pop(slot))
        await asyncio.shield(queued)

    async def _make_room(self, slot: Slot, keep_alive: float) -> None:
        """Load the model as soon as there is room, unless nobody waits for it any more; Unavailable: not in time."""
        try:
            async with asyncio.timeout(self._settings.load_timeout), self._making_room:
                while slot.resident.waiting and self._place(slot) is None and slot.state == "idle":
                    if self._residency.has_room(slot.resident):
                        slot.load(keep_alive)
                        return
                    self._unload(self._residency.victims(slot.resident))
                    await self._stirred.rung()
        except TimeoutError:
            raise Unavailable(BUSY) from None

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
        for slot in self._slots.values():
            if slot.resident in residents:
                logger.info("%s is unloaded", slot.resident.name)
                slot.leave()

    async def _forget(self, model: Model) -> None:
        """A model that is no more, or another one by now: its engine goes when it is idle, unless others need it."""
        if self._store.get(model.name) is None:
            self._metrics.forget(model.name.short)
        slot = self._slots.get(model.engine)
        if slot is not None:
            slot.served.pop(model.name.key, None)
            if model.engine not in self._engines():
                await self._dismiss(slot)
        self._stirred.ring()

    def _engines(self) -> set[tuple[str, ...]]:
        return {model.engine for model in self._store.models()}

    def _drop_orphans(self) -> None:
        """The slots of engines that no model needs, once nothing runs in them."""
        for engine in self._slots.keys() - self._engines():
            slot = self._slots[engine]
            if slot.state == "idle" and not slot.resident.in_use:
                self._residency.remove(self._slots.pop(engine).resident)
