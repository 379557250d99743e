"""Keep one engine's worker process running while one of its models is wanted: watch it, and replace it.

idle ──▶ loading ──▶ ready ──▶ (dies, hangs) restarting ──▶ ready …
  ▲                    │
  └──── unloading ◀────┘

A load that fails is a restart too. A model that is not pinned goes back to idle when several loads in a row fail.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import NoReturn

from ...config import Settings
from ...errors import EngineGone, InternalError, ServiceError, Unavailable
from ...models.inspection import describe
from ...models.model import Model
from ...protocol.live import EngineStatus
from ...protocol.model_info import EngineState, LoadedModel, ModelInfo
from ...protocol.reports import Activity, EngineDied, LoadFailed, Pulse, Ready
from ...syntax.names import ModelName
from ..bell import Bell
from .backoff import Backoff
from .metrics import State
from .process import Process
from .pulse_watch import PulseWatch
from .pulses import Pulses
from .residency import Resident

logger = logging.getLogger("vllm_wsgi.host")

# Numbers the worker processes of all models, for the names of their sockets.
_numbers = itertools.count(1)

# How long a worker may take to end vLLM's processes after SIGTERM, before SIGKILL.
STOP_SECONDS = 20.0
PROGRESS_SECONDS = 5.0

Launch = Callable[[Settings, Model, str], Awaitable[Process]]


class EngineSupervisor:
    """Keeps one engine running while it is wanted.

    Its engine is that of `model`, and of every model that differs from it in its defaults alone. `served` are those of
    them that were asked for since the engine was loaded. `weights` is their size in bytes. `stir` is called whenever
    something changes that the residency depends on.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        weights: int,
        directory: Path,
        resident: Resident,
        stir: Callable[[], None],
        launch: Launch = Process.start,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self.model = model
        self._weights = weights
        self.resident = resident
        self.served: dict[str, ModelInfo] = {}
        self._stir = stir
        self._launch = launch
        self._backoff = backoff or Backoff()
        self._keeping: asyncio.Task[None] | None = None
        self._changed = Bell()
        self._socket = ""
        self._ready = Ready(0, "", 0)
        self._pulses = Pulses()
        self._load_count = self._unloads = self._restarts = 0
        self._ready_at: float | None = None
        self._entered_at = time.time()
        self._trouble: ServiceError = Unavailable("the model is not loaded")

    @property
    def state(self) -> EngineState:
        return self.resident.state

    def load(self, keep_alive: float) -> None:
        """Begin to keep the engine running; `keep_alive` (seconds) holds until a request brings its own."""
        if self._keeping is None:
            self.resident.reset_keep_alive(keep_alive)
            self._enter(EngineState.LOADING)
            self._keeping = asyncio.create_task(self._keep())
            self._keeping.add_done_callback(self._kept)

    def serve(self, info: ModelInfo) -> None:
        """List this model among those that are served, until the engine is unloaded."""
        self.served[ModelName.parse(info.name).key] = info.listed()

    def leave(self) -> None:
        """Begin to end the worker; what it is generating ends with an error."""
        if self._keeping is not None and self.state is not EngineState.UNLOADING:
            self._unloads += self.state is EngineState.READY
            self._enter(EngineState.UNLOADING)
            self._keeping.cancel()

    async def unload(self) -> None:
        """End the worker, and wait until it is gone."""
        self.leave()
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    def data_socket(self, lost: Collection[str] = ()) -> str | None:
        """Return the path of the data socket; None while the model must be loaded, or is being loaded or unloaded.

        Raises what the last worker ended with, while the engine is restarted and, after a failure, until the pause
        is over. An asker that has `lost` a socket of the engine waits for the restart instead.
        """
        if self.state is EngineState.READY:
            return None if self._socket in lost else self._socket
        pause = self._backoff.pause
        if (self.state is EngineState.RESTARTING and not lost) or (self.state is EngineState.IDLE and pause > 0):
            raise type(self._trouble)(self._trouble.message, round(pause) + 1)
        return None

    async def changed(self) -> None:
        """Wait until the state changes."""
        await self._changed.rung()

    def loaded(self) -> list[LoadedModel]:
        """Return an entry for each model that is served; memory and requests are the engine's, in each of them."""
        return [
            LoadedModel(
                info=info,
                state=self.state,
                running=self._pulses.running,
                waiting=self._pulses.waiting,
                size=self.resident.memory,
                context_length=self._ready.context_length,
                restarts=self._restarts,
                device=self._ready.device,
                expires_at=time.time() + self.resident.remaining(),
            )
            for info in self.served.values()
        ]

    def status(self) -> EngineStatus:
        """Return what observers are shown of the engine."""
        has_failed = self.state is EngineState.IDLE and self._backoff.gives_up
        is_restarting = self.state is EngineState.RESTARTING
        return EngineStatus(
            state=EngineState.FAILED if has_failed else self.state,
            reason=self._trouble.message if has_failed or is_restarting else "",
            since=self._entered_at, retry_at=time.time() + self._backoff.pause if is_restarting else None,
            running=self._pulses.running, waiting=self._waiting, tokens_per_second=self._pulses.tokens_per_second,
            memory_bytes=self.resident.memory if self.state is EngineState.READY else 0, restarts=self._restarts,
        )  # fmt: skip

    @property
    def socket(self) -> str:
        """The path of the data socket; empty where no worker listens."""
        return self._socket if self.state is EngineState.READY else ""

    def measured(self) -> State:
        """Return what the metrics report of the engine."""
        return State(
            self.resident.name, self.state is EngineState.READY, self._pulses.running, self._waiting,
            self._load_count, self._unloads, self._restarts,
        )  # fmt: skip

    def trouble(self) -> str:
        """Return why no request should come for the engine now; empty where one may, if only to have it loaded."""
        name, crowd = self.resident.name, self._settings.max_queue
        if 0 < crowd <= self._waiting:
            return f"{name}: its queue is full"
        unwanted = {EngineState.RESTARTING}
        if self.resident.pinned:
            unwanted |= {EngineState.LOADING, EngineState.IDLE}
        return f"{name} is {self.state}" if self.state in unwanted else ""

    @property
    def _waiting(self) -> int:
        """Requests that wait for the model to be loaded, and in its engine."""
        return self._pulses.waiting + self.resident.waiting

    async def _keep(self) -> None:
        """Start, watch, and start again, until cancelled, or until a model that is not pinned fails to load."""
        while True:
            self._ready_at = None
            self._trouble = await self._live()
            self._restarts += 1
            self._backoff.failed(None if self._ready_at is None else time.monotonic() - self._ready_at)
            name, pause = self.model.name.short, self._backoff.pause
            if self._backoff.gives_up and not self.resident.pinned:
                logger.error("%s: %s; not tried again before %.0f s have passed", name, self._trouble.message, pause)
                return
            logger.error("%s: %s; starting again in %.0f s", name, self._trouble.message, pause)
            self._enter(EngineState.RESTARTING)
            await asyncio.sleep(pause)

    def _kept(self, task: asyncio.Task[None]) -> None:
        """Tidy up after `_keep`. A task that was cancelled before it ran could not do so itself."""
        self._keeping = None
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: the host failed to keep it running", self.model.name.short, exc_info=error)
            self._trouble = InternalError()
            self._backoff.bar()
        self.served.clear()
        self._enter(EngineState.IDLE)

    async def _live(self) -> ServiceError:
        """Run one worker from its start to its end, and return why it ended."""
        path = self._directory / f"worker-{next(_numbers)}.sock"
        try:
            process = await self._launch(self._settings, self.model, str(path))
        except OSError as error:
            return Unavailable(f"the engine worker can't be started: {error.strerror}")
        patience = STOP_SECONDS
        try:
            await self._load(process)
            await self._watch(process)
        except TimeoutError:
            patience = 0.0
            return EngineGone(f"the engine has answered nothing for {self._settings.engine_timeout:g} s")
        except ServiceError as error:
            patience = 1.0
            return error
        finally:
            self._pulses = Pulses()
            self.resident.begin()
            process.terminate()
            await asyncio.shield(process.end(patience))

    async def _watch(self, process: Process) -> NoReturn:
        """Read the worker's reports until it ends. Raises EngineGone, and TimeoutError when it hangs."""
        reports = PulseWatch(process, self._settings.engine_timeout)
        while True:
            report = await reports.report()
            if isinstance(report, Pulse):
                self._pulses.add(report)
            elif isinstance(report, Activity):
                self.resident.report(report.begun, report.running)
                self._stir()
            elif isinstance(report, EngineDied):
                raise EngineGone(report.message)

    async def _load(self, process: Process) -> None:
        """Wait until the worker is ready. Raises Unavailable where the model can't be loaded, and EngineGone."""
        began = time.monotonic()
        progress = asyncio.create_task(self._log_progress(began))
        try:
            report = await process.report(self._settings.load_timeout)
        except TimeoutError:
            raise Unavailable(f"the model has not loaded within {self._settings.load_timeout:g} s") from None
        finally:
            progress.cancel()
        if isinstance(report, LoadFailed):
            raise Unavailable(f"the model can't be loaded: {report.message}")
        assert isinstance(report, Ready)
        await self._is_ready(report, process.path)
        logger.info(
            "%s is loaded on %s after %.0f s; its context has %d tokens",
            self.model.name.short, report.device, time.monotonic() - began, report.context_length,
        )  # fmt: skip

    async def _is_ready(self, ready: Ready, path: str) -> None:
        if not self._weights:
            # The files of a repository on the hub are on disk only now.
            self._weights = (await asyncio.to_thread(describe, self.model)).size
        self._ready, self._socket = ready, path
        self._load_count += 1
        self._ready_at = time.monotonic()
        self._backoff.loaded()
        self.resident.memory = self.model.memory or self._weights + ready.cache_bytes
        self.resident.begin()
        self._enter(EngineState.READY)

    async def _log_progress(self, began: float) -> None:
        logger.info("%s: loading from %s", self.model.name.short, self.model.source)
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            logger.info("%s: still loading, %.0f s so far", self.model.name.short, time.monotonic() - began)

    def _enter(self, state: EngineState) -> None:
        self.resident.state = state
        self._entered_at = time.time()
        self._changed.ring()
        self._stir()
