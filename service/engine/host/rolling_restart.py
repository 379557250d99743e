"""Restart the replicas of a model, one after the other, while the others serve.

In: a Restart. Out: Progress in sentences for the operator, and Done. A replica gets no new request, its requests have
time to end, and the rest moves to another replica when the worker is asked to end. The next replica follows when the
new worker is ready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable

from ...config import Settings
from ...errors import BadRequest, EngineGone
from ...models.catalog import Catalog
from ...models.model import Model
from ...protocol.commands import Command, Restart
from ...protocol.events import Done, Event, Progress
from ...protocol.model_info import EngineState
from ..listener import Handler
from .engines import Engines
from .replicas import Replicas
from .supervisor import EngineSupervisor

logger = logging.getLogger("vllm_wsgi.host")

# How often a worker is looked for whose node is drained. By then the room that the one before it took is known.
LEAVE_SECONDS = 5.0
# How often the end of a replica's requests is looked for.
LOOK_SECONDS = 0.1


class RollingRestart:
    """Answers Restart."""

    def __init__(self, engines: Engines, catalog: Catalog, settings: Settings) -> None:
        self._engines = engines
        self._catalog = catalog
        self._settings = settings
        self._restarting: set[Replicas] = set()
        self.handlers: dict[type[Command], Handler] = {Restart: self._restart}

    async def _restart(self, command: Restart) -> AsyncGenerator[Event, None]:
        """Raises BadRequest where it can't be done without refusing requests, and EngineGone where it has failed."""
        engines = self._engines.loaded_replicas(self._catalog.find(command.model) if command.model else None)
        if not engines:
            what = f"{command.model} is not loaded" if command.model else "no model is loaded"
            raise BadRequest(f"{what}, so that no engine worker runs")
        for replicas in engines:
            self._check(replicas, command.may_pause)
        self._restarting.update(engines)
        try:
            for replicas in engines:
                for replica in replicas.all:
                    if not command.may_pause:
                        await _others_serve(replicas, replica)
                    async for sentence in self._replace(replicas, replica, command.seconds):
                        yield Progress(command.id, sentence)
        finally:
            self._restarting.difference_update(engines)
        yield Done(command.id)

    async def leave_nodes(self, has_room: Callable[[Model], bool]) -> None:
        """Replace each worker whose node is drained, one after the other, for as long as the host lives.

        A worker serves on until `has_room` returns that another node has room for the model. Its requests move at once:
        a node that is drained may be gone a minute later.
        """
        while True:
            await asyncio.sleep(LEAVE_SECONDS)
            leaving = (
                (replicas, replica)
                for replicas in self._engines.loaded_replicas() if replicas not in self._restarting
                for replica in replicas.all if replica.must_leave and has_room(replica.model)
            )  # fmt: skip
            if found := next(leaving, None):
                await self._leave_node(*found)

    async def _leave_node(self, replicas: Replicas, replica: EngineSupervisor) -> None:
        self._restarting.add(replicas)
        try:
            async for sentence in self._replace(replicas, replica, 0.0):
                logger.info("a node is drained: %s", sentence)
        except EngineGone as error:
            logger.error("a node is drained: %s", error.message)
        finally:
            self._restarting.discard(replicas)

    def _check(self, replicas: Replicas, may_pause: bool) -> None:
        name = replicas.resident.name
        if replicas in self._restarting:
            raise BadRequest(f"{name} is being restarted already")
        if len(replicas.all) == 1 and not may_pause:
            raise BadRequest(
                f"{name} has one replica: its streams would pause and new requests would be refused until it is loaded "
                "again. Give it `replicas = 2` in models.toml, or allow the pause with --pause"
            )
        for replica in replicas.all:
            if replica.state is not EngineState.READY and not may_pause:
                raise BadRequest(
                    f"{name}: replica {replica.number} is {replica.state}; wait until all replicas are ready, "
                    "or allow a pause with --pause"
                )

    async def _replace(
        self, replicas: Replicas, replica: EngineSupervisor, wait: float | None
    ) -> AsyncGenerator[str, None]:
        """Yield sentences while one replica is replaced. Raises EngineGone where the new worker does not serve."""
        seconds = self._settings.drain if wait is None else wait
        label = f"{replicas.resident.name}, replica {replica.number}"
        use, before = replicas.resident.replicas[replica.number], replica.restarts
        replica.is_leaving = True
        try:
            if use.in_use and seconds:
                yield f"{label}: gets no new requests, and its {_requests(replica.load)} may run for {seconds:g} s"
            due = time.monotonic() + seconds
            while use.in_use and time.monotonic() < due:
                await asyncio.sleep(LOOK_SECONDS)
            rest = f"; its {_requests(replica.load)} will move to another engine" if use.in_use else ""
            yield f"{label}: is asked to end{rest}"
            old = replica.socket
            replica.restart()
            while replica.socket in ("", old) and replica.restarts == before and replicas.resident.staying:
                await replicas.changed()
        finally:
            replica.is_leaving = False
        if not replica.socket:
            raise EngineGone(
                f"{label}: the new engine worker is not ready: {replica.status().reason or 'the model is unloaded'}; "
                "the replicas after it were not restarted"
            )
        yield f"{label}: is ready again"


async def _others_serve(replicas: Replicas, replica: EngineSupervisor) -> None:
    """Wait until all other replicas are ready, one of which may have died. Raises EngineGone when one stays away."""
    others = [each for each in replicas.all if each is not replica]
    while away := [each for each in others if each.state is not EngineState.READY]:
        if any(each.state in (EngineState.IDLE, EngineState.UNLOADING) for each in away):
            raise EngineGone(
                f"{replicas.resident.name}: replica {away[0].number} is {away[0].state}, so that replica "
                f"{replica.number} was not restarted"
            )
        await replicas.changed()


def _requests(number: int) -> str:
    return f"{number} request{'' if number == 1 else 's'}"
