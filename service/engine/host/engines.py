"""Decide which engine serves a model, which requests wait for it, and which other engines make room.

In: models, and the requests that ask for them. Out: data sockets. It decides by `residency`, and acts through
supervisors, which a test can replace. It never knows a socket, a process or a command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from ...config import Settings
from ...errors import EngineGoingDown, ServerBusy
from ...models.catalog import Catalog
from ...models.model import Model
from ...protocol.live import HostState, ModelStatus
from ...protocol.model_info import EngineState, LoadedModel
from ..bell import Bell
from .metrics import State
from .replicas import Replicas
from .residency import Limits, Residency
from .resident import Resident
from .supervisor import EngineSupervisor, Stir

logger = logging.getLogger("vllm_wsgi.host")

# How long an engine that an asker has lost, and that the host finds well, is not named again.
SUSPECT_SECONDS = 6.0
# How often a drain that takes long is reported to systemd.
DRAIN_REPORT_SECONDS = 1.0

# Makes the supervisor of a replica: the model, its weights in bytes, its entry in the residency, the replica's number.
NewSupervisor = Callable[[Model, int, Resident, int, Stir], EngineSupervisor]


class Engines:
    """The replicas of each engine that the catalog's models need. Models that have an engine in common share it."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        new_supervisor: NewSupervisor,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called whenever an engine enters another state, or the host begins to drain."""
        self._catalog = catalog
        self._settings = settings
        self._new_supervisor = new_supervisor
        self._changed = changed
        self._stirred = Bell()
        self._engines: dict[tuple[str, ...], Replicas] = {}
        self._residency = Residency(Limits(settings.max_loaded, settings.max_memory))
        # Loads are served in the order in which they were asked for: a small model does not overtake a large one.
        self._making_room = asyncio.Lock()
        self._queued: dict[Replicas, asyncio.Task[None]] = {}
        self._draining = False
        # Whether an engine may be there that no model needs: a model is deleted, perhaps before its engine is made.
        self._may_have_orphans = False

    # --- what is asked ---------------------------------------------------------------------------------------

    async def locate(
        self,
        model: Model,
        caller: str,
        keep_alive: float | None,
        submits: int,
        lost: Collection[str] = (),
        beginning: str = "",
    ) -> EngineSupervisor:
        """Return the replica of the model that is to serve a request, once it is loaded.

        `keep_alive` is in seconds, None where the request brings none; `submits` is how many requests will follow.
        Requests with the same `beginning` go to the same replica, as long as that one has not much more to do.
        An asker that has `lost` data sockets waits for another one, which a full queue does not refuse.
        Raises Unavailable where the model can't be loaded, and ServerBusy where too many requests of this caller wait;
        those of other callers do not count.
        """
        engine = self._replicas(model)
        if not lost and 0 < self._settings.max_queue <= engine.resident.waiting_of(caller):
            raise ServerBusy
        try:
            with engine.resident.awaited(caller):
                while (replica := self._choose(engine, lost, beginning)) is None:
                    if engine.state is EngineState.IDLE:
                        await self._load(engine, self._keep_alive(model))
                    else:
                        lost = await self._state_changed(engine, lost)
                    engine.serve(self._catalog.info(model))
                engine.serve(self._catalog.info(model))
                engine.resident.send(keep_alive, submits, replica.number)
                engine.revive()
        finally:
            self._stirred.ring()
        return replica

    async def unload(self, model: Model) -> None:
        """Unload the model's engine as soon as it is idle. Return when it is gone, or at once where it is in use."""
        await self._dismiss(self._replicas(model))

    async def forget(self, model: Model) -> None:
        """Unload the engine of a model that was deleted or replaced, once it is idle, unless another model needs it."""
        self._may_have_orphans = True
        if engine := self._engines.get(model.engine):
            engine.served.pop(model.name.key, None)
            if model.engine not in self._needed():
                await self._dismiss(engine)
        self._stirred.ring()

    # --- what is reported ------------------------------------------------------------------------------------

    def loaded(self) -> list[LoadedModel]:
        """Return the models whose engines are loaded, are being loaded or unloaded, or are restarted."""
        present = [engine for engine in self._engines.values() if engine.state is not EngineState.IDLE]
        return [loaded for engine in present for loaded in engine.loaded()]

    def statuses(self) -> tuple[HostState, str, list[ModelStatus]]:
        """Return what observers are shown: the host's state, why, and every model that is not idle."""
        models = [status for engine in self._engines.values() for status in engine.statuses()]
        host = (HostState.DRAINING, "it was asked to end") if self._draining else (HostState.READY, "")
        return *host, models

    def loaded_replicas(self, model: Model | None = None) -> list[Replicas]:
        """Return those of every engine that is loaded, or only of the model's. Raises EngineGoingDown."""
        if self._draining:
            raise EngineGoingDown
        engines = self._engines.values() if model is None else [self._replicas(model)]
        return [engine for engine in engines if engine.resident.present]

    def measured(self) -> list[State]:
        return [engine.measured() for engine in self._engines.values()]

    def sockets(self) -> list[str]:
        """Return the data sockets of the workers that listen, one for each replica of a name.

        A model that is made anew has two engines for a moment; the newer one counts.
        """
        sockets = {engine.resident.name: each for engine in self._engines.values() if (each := engine.sockets())}
        return [socket for each in sockets.values() for socket in each]

    def pinned_states(self) -> dict[str, EngineState]:
        return {engine.resident.name: engine.state for engine in self._engines.values() if engine.resident.pinned}

    def trouble(self) -> str:
        """Return why no request should come now; empty where a pinned model is ready, or any other can be loaded."""
        if self._draining:
            return EngineGoingDown().message
        pinned = [engine for engine in self._engines.values() if engine.resident.pinned]
        if not pinned and self._needed() - self._engines.keys():
            return ""
        troubles = [engine.trouble() for engine in pinned or self._engines.values()]
        return "" if not all(troubles) else "; ".join(troubles) or "there is no model"

    # --- the host's life -------------------------------------------------------------------------------------

    def load_first(self, is_running: Callable[[Model], bool] = lambda model: False) -> None:
        """Begin to load every pinned model, and those whose engine workers an engine host before this one has left."""
        for model in self._catalog.models():
            if model.pinned or is_running(model):
                engine = self._replicas(model)
                engine.resident.pinned |= model.pinned
                engine.serve(self._catalog.info(model))
                engine.load(self._keep_alive(model))

    def limit_gpus(self, gpus: float) -> None:
        self._residency.limit_gpus(gpus)
        self._stirred.ring()

    async def unload_overdue(self) -> None:
        """Unload the models whose time is up, for as long as the host lives."""
        while True:
            self._unload(self._residency.overdue())
            self._drop_orphans()
            if not await self._stirred.rung_within(self._residency.next_due()):
                # An engine may be idle by now for which a load waits.
                self._stirred.ring()

    async def drain(self, seconds: float, report: Callable[[], None]) -> None:
        """Wait until no request runs any more, or for `seconds`; call `report` once a second.

        Requests that wait for a model are refused, and so is what comes from now on.
        """
        self._draining = True
        self._changed()
        for engine in self._engines.values():
            if engine.state is not EngineState.READY:
                engine.leave()
        self._stirred.ring()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(engine.resident.in_use for engine in self._engines.values()):
                    report()
                    await self._stirred.rung_within(DRAIN_REPORT_SECONDS)

    async def close(self) -> None:
        """End every worker, and wait until all are gone."""
        await asyncio.gather(*(engine.unload() for engine in self._engines.values()))

    # --- placing ---------------------------------------------------------------------------------------------

    def _replicas(self, model: Model) -> Replicas:
        """Return those of the model's engine, made when the first model needs it."""
        if model.engine not in self._engines:
            weights = self._catalog.info(model).size
            # Until it has been loaded once, all that is known of its KV cache is what the operator wants.
            memory = model.memory or weights + model.cache_bytes
            name, keep_alive = model.name.short, self._keep_alive(model)
            resident = Resident(name, keep_alive, model.pinned, memory, replicas=model.replicas, gpus=model.gpus)
            new_replica = partial(self._new_supervisor, model, weights, resident)
            self._engines[model.engine] = Replicas(resident, new_replica, self._stir, self._settings.max_queue)
            self._residency.add(resident)
            self._may_have_orphans = True
        return self._engines[model.engine]

    def _stir(self, has_changed: bool) -> None:
        """Wake what waits for room or for an idle engine. Supervisors call it for each burst of requests, too."""
        self._stirred.ring()
        if has_changed:
            self._changed()

    def _keep_alive(self, model: Model) -> float:
        return self._settings.keep_alive if model.keep_alive is None else model.keep_alive

    async def _state_changed(self, engine: Replicas, lost: Collection[str]) -> Collection[str]:
        """Wait until the engine's state changes. Return which sockets are still believed to be lost.

        Workers that the host still finds well after a while are so: the asker lost a connection and not the engine.
        """
        if not lost or engine.state is not EngineState.READY:
            await engine.changed()
            return lost
        try:
            async with asyncio.timeout(SUSPECT_SECONDS):
                await engine.changed()
        except TimeoutError:
            return ()
        return lost

    def _choose(self, engine: Replicas, lost: Collection[str] = (), beginning: str = "") -> EngineSupervisor | None:
        """As the replicas' own; raises EngineGoingDown once the host drains."""
        if self._draining:
            raise EngineGoingDown
        return engine.choose(lost, beginning)

    async def _load(self, engine: Replicas, keep_alive: float) -> None:
        """Wait until the engine begins to be loaded. Raises Unavailable.

        All requests for a model share one attempt to load it. If each waited for the lock, they would count as waiting
        for their model and keep it busy. A load of another model that needs this one unloaded would then wait for them,
        and they for it.
        """
        queued = self._queued.get(engine)
        if queued is None:
            queued = self._queued[engine] = asyncio.create_task(self._make_room(engine, keep_alive))
            queued.add_done_callback(lambda _: self._queued.pop(engine))
        await asyncio.shield(queued)

    async def _make_room(self, engine: Replicas, keep_alive: float) -> None:
        """Load the engine as soon as there is room, unless no request waits for it any more.

        Raises ServerBusy where there is no room within the load time-out, and Unavailable where there never is.
        """
        try:
            async with asyncio.timeout(self._settings.load_timeout), self._making_room:
                while engine.resident.waiting and self._choose(engine) is None and engine.state is EngineState.IDLE:
                    if self._residency.has_room(engine.resident):
                        engine.load(keep_alive)
                        return
                    self._unload(self._residency.victims(engine.resident))
                    await self._stirred.rung()
        except TimeoutError:
            raise ServerBusy from None

    async def _dismiss(self, engine: Replicas) -> None:
        engine.resident.dismiss()
        if not engine.resident.in_use:
            await engine.unload()

    def _unload(self, residents: list[Resident]) -> None:
        for engine in self._engines.values():
            if engine.resident in residents:
                logger.info("%s is unloaded", engine.resident.name)
                engine.leave()

    def _needed(self) -> set[tuple[str, ...]]:
        """The engines of all models."""
        return {model.engine for model in self._catalog.models()}

    def _drop_orphans(self) -> None:
        """Drop the supervisors of engines that no model needs, once they are idle."""
        orphans = self._engines.keys() - self._needed() if self._may_have_orphans else set()
        self._may_have_orphans = bool(orphans)
        for key in orphans:
            engine = self._engines[key]
            if engine.state is EngineState.IDLE and not engine.resident.in_use:
                self._residency.remove(self._engines.pop(key).resident)
