"""An engine's place in the host: its worker process, watched and replaced for as long as one of its models is wanted.

idle ──▶ loading ──▶ ready ──▶ (dies, hangs) restarting ──▶ ready …
  ▲                    │
  └──── unloading ◀────┘

A load that fails is a restart too; a model that is not pinned goes back to idle when several fail in a row.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ...config import Settings
from ...errors import EngineGone, InternalError, ServiceError, Unavailable
from ...models.inspection import describe
from ...models.model import Model
from ...protocol.model_info import LoadedModel, ModelInfo
from ...protocol.reports import Activity, LoadFailed, Pulse, Ready
from ...syntax.names import ModelName
from ..bell import Bell
from .metrics import State
from .process import Process
from .residency import Resident

logger = logging.getLogger("vllm_wsgi.host")

# Of worker processes, over all models.
_numbers = itertools.count(1)

BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# A worker that served for so long was well: the next back-off begins anew.
HEALTHY_SECONDS = 60.0
# So often a model that is not pinned is started without anybody asking for it again.
LOAD_ATTEMPTS = 3
# A time-out that is noticed so many seconds too late is our own doing.
STOOD_STILL_SECONDS = 1.0
# What a worker gets to end vLLM's processes in after SIGTERM, before SIGKILL.
STOP_SECONDS = 20.0
PROGRESS_SECONDS = 5.0


class EngineSupervisor:
    """Keeps one engine running while it is wanted. `stir` is called with everything that the residency may mind.

    Its engine is `model`'s, and that of every model that differs from it in its defaults alone; `served` are those that
    were asked for since it was loaded. `weights` is their size in bytes.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        weights: int,
        directory: Path,
        resident: Resident,
        stir: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self.model = model
        self._weights = weights
        self.resident = resident
        self.served: dict[str, ModelInfo] = {}
        self._stir = stir
        self._keeping: asyncio.Task[None] | None = None
        self._changed = Bell()
        self._socket = ""
        self._ready = Ready(0, "", 0)
        self._pulse = Pulse(0, 0)
        self._loads = self._unloads = self._restarts = 0
        self._failures = self._failed_loads = 0
        self._ready_at: float | None = None
        self._trouble: ServiceError = Unavailable("the model is not loaded")
        self._barred_until = 0.0

    @property
    def state(self) -> str:
        return self.resident.state

    def load(self, keep_alive: float) -> None:
        """Begin to keep the engine running; `keep_alive` (seconds) holds where no request has one."""
        if self._keeping is None:
            self.resident.reset_keep_alive(keep_alive)
            self._enter("loading")
            self._keeping = asyncio.create_task(self._keep())
            self._keeping.add_done_callback(self._kept)

    def serve(self, info: ModelInfo) -> None:
        """It serves this model too from now on, until it is unloaded."""
        self.served[ModelName.parse(info.name).key] = info

    def leave(self) -> None:
        """Begin to end the worker; what it was generating ends with an error."""
        if self._keeping is not None and self.state != "unloading":
            self._unloads += self.state == "ready"
            self._enter("unloading")
            self._keeping.cancel()

    async def unload(self) -> None:
        """Until the worker is gone."""
        self.leave()
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    def data_socket(self) -> str | None:
        """The data socket; None where the model must be loaded first, or is being loaded or unloaded.

        Raises Unavailable, and says why, while it is restarted, and after a failure until the pause is over.
        """
        if self.state == "ready":
            return self._socket
        pause = self._barred_until - time.monotonic()
        if self.state == "restarting" or (self.state == "idle" and pause > 0):
            raise type(self._trouble)(self._trouble.message, max(0, round(pause)) + 1)
        return None

    async def changed(self) -> None:
        """Until the state is another."""
        await self._changed.rung()

    def loaded(self) -> list[LoadedModel]:
        """One for each model that is served; what they share is told of each."""
        return [
            LoadedModel(
                info=info,
                state=self.state,
                running=self._pulse.running,
                waiting=self._pulse.waiting,
                size=self.resident.memory,
                context_length=self._ready.context_length,
                restarts=self._restarts,
                device=self._ready.device,
                expires_at=time.time() + self.resident.remaining(),
            )
            for info in self.served.values()
        ]

    @property
    def socket(self) -> str:
        """The data socket; empty where nobody listens."""
        return self._socket if self.state == "ready" else ""

    def measured(self) -> State:
        """For the metrics."""
        return State(
            self.resident.name, self.state == "ready", self._pulse.running, self._waiting,
            self._loads, self._unloads, self._restarts,
        )  # fmt: skip

    def trouble(self) -> str:
        """Why no request should come for it; empty where one may, if only to have it loaded."""
        name, crowd = self.resident.name, self._settings.max_queue
        if 0 < crowd <= self._waiting:
            return f"{name}: its queue is full"
        unwanted = ("restarting", "loading", "idle") if self.resident.pinned else ("restarting",)
        return f"{name} is {self.state}" if self.state in unwanted else ""

    @property
    def _waiting(self) -> int:
        """In front of the model and in it."""
        return self._pulse.waiting + self.resident.waiting

    async def _keep(self) -> None:
        """Start, watch, and start again; ends when cancelled, or when the model is not pinned and won't load."""
        while True:
            self._ready_at = None
            trouble = await self._live()
            self._restarts += 1
            pause = self._pause()
            self._trouble, self._barred_until = trouble, time.monotonic() + pause
            name = self.model.name.short
            if self._failed_loads >= LOAD_ATTEMPTS and not self.resident.pinned:
                logger.error("%s: %s; not tried again before %g s have passed", name, trouble.message, pause)
                return
            logger.error("%s: %s; starting again in %g s", name, trouble.message, pause)
            self._enter("restarting")
            await asyncio.sleep(pause)

    def _pause(self) -> float:
        """How long to wait before the next start, by what has failed in a row."""
        lived = 0.0 if self._ready_at is None else time.monotonic() - self._ready_at
        self._failed_loads = self._failed_loads + 1 if self._ready_at is None else 0
        self._failures = 0 if lived > HEALTHY_SECONDS else self._failures + 1
        return BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS)) - 1] if self._failures else 0.0

    def _kept(self, task: asyncio.Task[None]) -> None:
        """However it ended: a task that is cancelled before it ran has no say of its own."""
        self._keeping = None
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: the host failed to keep it", self.model.name.short, exc_info=error)
            self._trouble = InternalError()
            self._barred_until = time.monotonic() + BACKOFF_SECONDS[-1]
        self.served.clear()
        self._enter("idle")

    async def _live(self) -> ServiceError:
        """One worker's life; why it ended."""
        path = self._directory / f"worker-{next(_numbers)}.sock"
        try:
            process = await Process.start(self._settings, self.model, str(path))
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
            self._pulse = Pulse(0, 0)
            self.resident.begin()
            process.terminate()
            await asyncio.shield(process.end(patience))

    async def _watch(self, process: Process) -> NoReturn:
        """Ends with an error: TimeoutError where the engine's pulse stops, whatever else the worker tells."""
        due = time.monotonic() + self._settings.engine_timeout
        while True:
            try:
                report = await process.report(due - time.monotonic())
            except TimeoutError:
                if time.monotonic() - due < STOOD_STILL_SECONDS:
                    raise
                # We were stopped ourselves, and what the engine told meanwhile has not been read.
                due = time.monotonic() + self._settings.engine_timeout
                continue
            if isinstance(report, Pulse):
                self._pulse = report
                due = time.monotonic() + self._settings.engine_timeout
            elif isinstance(report, Activity):
                self.resident.report(report.begun, report.running)
                self._stir()

    async def _load(self, process: Process) -> None:
        """Until the worker is ready; raises Unavailable where the model can't be loaded."""
        began = time.monotonic()
        progress = asyncio.create_task(self._tell_progress(began))
        try:
            report = await process.report(self._settings.load_timeout)
        except TimeoutError:
            raise Unavailable(f"the model has not loaded within {self._settings.load_timeout:g} s") from None
        finally:
            progress.cancel()
        if isinstance(report, LoadFailed):
            raise Unavailable(f"the model can't be loaded: {report.message}")
        assert isinstance(report, Ready)
        self._is_ready(report, process.path)
        logger.info(
            "%s is loaded on %s after %.0f s; its context has %d tokens",
            self.model.name.short, report.device, time.monotonic() - began, report.context_length,
        )  # fmt: skip

    def _is_ready(self, ready: Ready, path: str) -> None:
        self._ready, self._socket = ready, path
        self._loads += 1
        if not self._weights:
            # A repository has its files only now.
            self._weights = describe(self.model).size
        self._ready_at = time.monotonic()
        self._barred_until = 0.0
        self.resident.memory = self.model.memory or self._weights + ready.cache_bytes
        self.resident.begin()
        self._enter("ready")

    async def _tell_progress(self, began: float) -> None:
        logger.info("%s: loading from %s", self.model.name.short, self.model.source)
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            logger.info("%s: still loading, %.0f s so far", self.model.name.short, time.monotonic() - began)

    def _enter(self, state: str) -> None:
        self.resident.state = state
        self._changed.ring()
        self._stir()
