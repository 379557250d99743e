"""The engine host: the control plane, one process a machine.

In: commands on the control socket that `VLLM_WSGI_ENGINE_SOCKET` names. Out: events. The workers' data sockets stand
in the same directory, so its permissions decide who may connect; with tls:// certificates decide. It loads no model and
imports no torch itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any

from ...config import Settings
from ...errors import ServiceError, SettingsError
from ...models.catalog import Catalog
from ...models.declaration import servable_models
from ...models.inspection import tensors, tokens
from ...models.library import Library, store_directory
from ...models.model import Model
from ...protocol.commands import (
    Check,
    Command,
    Count,
    ListLoaded,
    ListModels,
    Locate,
    Measure,
    ShowModel,
    Unload,
)
from ...protocol.events import Checked, Event, Loaded, Located, Measured, Models, Shown, Unloaded
from ...protocol.model_info import ClusterNode
from ...store.responses import Responses
from ...syntax.names import ModelName
from ...transport.address import parse_address
from ...transport.credentials import check_credentials
from ..cluster.workplace import ClusterWorkplace, check_models
from ..hub.pulls import Hub
from ..listener import Handler, Listening, UnixListener, check_place, listen
from .editor import Editor
from .engines import Engines
from .live_events import LiveEvents
from .local_workplace import LocalWorkplace
from .metrics import UNKNOWN, Metrics
from .resident import Resident
from .response_archive import ResponseArchive
from .rolling_restart import RollingRestart
from .supervisor import EngineSupervisor, Stir
from .systemd import SystemdNotifier
from .workplace import Workplace

logger = logging.getLogger("vllm_wsgi.host")

# In bytes (unix(7)). The workers' sockets stand in the same directory.
MAX_PATH, WORKER_SOCKET = 107, "/worker-99999.sock"


def check_length(path: str) -> None:
    """Raise SettingsError for a control socket whose path, or the workers' beside it, is too long for sockets."""
    if max(len(os.fsencode(path)), len(os.fsencode(os.path.dirname(path) + WORKER_SOCKET))) > MAX_PATH:
        raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={path}: the path is too long for sockets")


class Host:
    """The models of the catalog, their engines, and an answer to each command."""

    def __init__(self, settings: Settings, has_parent: bool = False) -> None:
        """Raises SettingsError. A host that `has_parent` ends with it, and its engine workers do, too."""
        self._settings = settings
        self._has_parent = has_parent
        self._address = parse_address(settings.engine_socket)
        check_credentials(self._address, settings.tls)
        if self._address.is_unix:
            check_length(self._address.host)
        declared, hub = servable_models(settings), Hub()
        directory = store_directory(settings.store)
        library = Library(directory, declared, hub.directory, settings.store_reserve)
        self._catalog = Catalog(declared + library.models())
        for name, reason in library.left_out.items():
            self._catalog.leave_out(ModelName.parse(name), reason)
        self._live = LiveEvents(lambda: self._engines.statuses())
        self._cluster = self._joined() if settings.cluster else None
        self._workplace: Workplace = self._cluster or LocalWorkplace(settings, self._data_socket)
        self._engines = Engines(self._catalog, settings, self._new_supervisor, self._live.changed)
        self._restarts = RollingRestart(self._engines, self._catalog, settings)
        self._metrics = Metrics()
        self._archive = ResponseArchive(
            Responses(directory, settings.responses_days, settings.max_body, settings.responses_bytes)
        )
        self._editor = editor = Editor(self._catalog, library, hub, self._forget)
        self._handlers: dict[type[Command], Handler] = {
            Locate: self._locate,
            Unload: self._unload,
            ListModels: self._list_models,
            ListLoaded: self._list_loaded,
            ShowModel: self._show,
            Check: self._check,
            Measure: self._measure,
            Count: self._count,
            **editor.handlers,
            **self._restarts.handlers,
            **self._archive.handlers,
            **self._live.handlers,
        }

    @property
    def directory(self) -> Path:
        """The directory of the Unix sockets. A control socket over TCP has none."""
        return Path(self._address.host).parent

    def remove_directory(self) -> None:
        """Remove the directory of the Unix sockets, which the parent has made for this host."""
        if self._address.is_unix:
            shutil.rmtree(self.directory, ignore_errors=True)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and end every worker.

        Workers on a cluster go on instead, for the next host. Raises SettingsError where the cluster can't be joined.
        """
        if self._cluster is not None:
            # Ray handles signals itself, until we do.
            self._cluster.connect()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await self._listen()
        self._engines.load_first(self._cluster.holds if self._cluster else lambda model: False)
        notifier = SystemdNotifier()
        chores = [
            self._engines.unload_overdue(),
            self._archive.prune_daily(),
            self._editor.expire_hourly(),
            notifier.inform(self._engines.pinned_states),
        ]
        if self._cluster is not None:
            chores += [
                self._cluster.end_unneeded(self._catalog.models()),
                self._cluster.watch(self._engines.limit_gpus),
                self._restarts.leave_nodes(self._cluster.has_room),
            ]
        tasks = [_begun(chore) for chore in chores]
        # A drain can be watched, too.
        observing = _begun(self._live.take_snapshots())
        await stop.wait()
        notifier.stopping()
        for task in tasks:
            task.cancel()
        if self._cluster is not None and not self._has_parent:
            self._cluster.leave()
        else:
            await self._engines.drain(self._settings.drain, notifier.alive)
        observing.cancel()
        server.close()
        await self._engines.close()
        if isinstance(server, UnixListener):
            server.remove()

    async def _listen(self) -> Listening:
        """Listen at the control socket. Raises SettingsError."""
        if self._address.is_unix:
            await check_place(self._address)
        try:
            return await listen(self._address, self._handlers, self._settings.tls, pulses=True)
        except OSError as error:
            hint = "make its directory, or let this user write there" if self._address.is_unix else "name another port"
            reason = error.strerror or str(error)
            raise SettingsError(f"VLLM_WSGI_ENGINE_SOCKET={self._address}: {reason}; {hint}") from None

    def _joined(self) -> ClusterWorkplace:
        """Return the workplace on the cluster. Raises SettingsError."""
        check_models(self._catalog.models())
        return ClusterWorkplace(self._settings)

    def _new_supervisor(
        self, model: Model, weights: int, resident: Resident, number: int, stir: Stir
    ) -> EngineSupervisor:
        return EngineSupervisor(self._settings, model, weights, self._workplace, resident, number, stir)

    def _data_socket(self, number: int) -> str:
        """Return where the worker with this number listens."""
        if self._address.is_unix:
            return str(self.directory / f"worker-{number}.sock")
        return str(self._address.with_ports(*self._settings.engine_ports))

    async def _locate(self, command: Locate) -> AsyncGenerator[Event, None]:
        began = time.monotonic_ns()
        model = self._catalog.find(command.model)
        replica = await self._engines.locate(
            model, command.caller, command.keep_alive, command.submits, command.lost, command.beginning
        )
        capabilities, took = self._catalog.info(model).capabilities, time.monotonic_ns() - began
        # A client may replace a model that a client has created.
        holds = 0.0 if model.made_at else replica.resident.holds()
        yield Located(command.id, replica.socket, took, capabilities, model.defaults, replica.number, holds)

    async def _unload(self, command: Unload) -> AsyncGenerator[Event, None]:
        await self._engines.unload(self._catalog.find(command.model))
        yield Unloaded(command.id)

    async def _list_models(self, command: ListModels) -> AsyncGenerator[Event, None]:
        yield Models(command.id, [self._catalog.info(model).listed() for model in self._catalog.models()])

    async def _list_loaded(self, command: ListLoaded) -> AsyncGenerator[Event, None]:
        yield Loaded(command.id, self._engines.loaded(), self._catalog.left_out(), self._nodes())

    def _nodes(self) -> list[ClusterNode]:
        return list(self._cluster.nodes) if self._cluster is not None else []

    async def _show(self, command: ShowModel) -> AsyncGenerator[Event, None]:
        model = self._catalog.find(command.model)
        info = self._catalog.info(model)
        if command.verbose:
            yield Shown(command.id, info, *await asyncio.to_thread(lambda: (tensors(model), tokens(model))))
        else:
            yield Models(command.id, [info])

    async def _check(self, command: Check) -> AsyncGenerator[Event, None]:
        yield Checked(command.id, self._engines.trouble())

    async def _measure(self, command: Measure) -> AsyncGenerator[Event, None]:
        yield Measured(command.id, self._metrics.text(self._engines.measured(), self._nodes()), self._engines.sockets())

    async def _count(self, command: Count) -> AsyncGenerator[Event, None]:
        for ended in command.ended:
            model = self._known(ended.model)
            self._metrics.count(ended, model)
            self._live.count(ended, model)
        # A handler is a generator, and there is no answer.
        return
        yield

    def _known(self, name: str) -> str:
        """Return the model's own name; UNKNOWN where no model has the name that a client sent."""
        try:
            return self._catalog.find(name).name.short if name else ""
        except ServiceError:
            return UNKNOWN

    async def _forget(self, model: Model) -> None:
        """Forget a model that was deleted, or replaced by another one of its name."""
        if self._catalog.get(model.name) is None:
            self._metrics.forget(model.name.short)
            self._live.forget(model.name.short)
        await self._engines.forget(model)


def _begun(chore: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run the chore beside the host. One that fails is logged, and the host goes on without it."""
    task = asyncio.create_task(chore)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.error("a chore of the engine host has failed, and is not done any more", exc_info=error)
