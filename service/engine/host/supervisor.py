"""Keep one engine's worker process running while one of its models is wanted: watch it, and replace it.

idle ──▶ loading ──▶ ready ──▶ (dies, hangs) restarting ──▶ ready …
  ▲                    │
  └──── unloading ◀────┘

A load that fails is a restart too. A model that is not pinned goes back to idle when several loads in a row fail.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import NoReturn

from ...config import Settings
from ...errors import EngineGone, InternalError, ServiceError, Unavailable
from ...models.inspection import describe
from ...models.model import Model
from ...protocol.live import EngineStatus
from ...protocol.model_info import EngineState
from ...protocol.reports import Activity, EngineDied, KeptAnswers, LoadFailed, Pulse, Ready
from .backoff import Backoff
from .kept_handover import KeptHandover
from .metrics import State
from .pulse_watch import PulseWatch
from .pulses import Pulses
from .resident import Resident
from .workplace import WorkerProcess, Workplace

logger = logging.getLogger("vllm_wsgi.host")

# How long a worker may take to end vLLM's processes after SIGTERM, before SIGKILL.
STOP_SECONDS = 20.0
PROGRESS_SECONDS = 5.0


# Called whenever something changes that the residency depends on, with whether the engine has entered another state.
Stir = Callable[[bool], None]


class EngineSupervisor:
    """Keeps one engine worker running while it is wanted: the replica of `model` with this `number`.

    Its engine is that of the model, and of every model that differs from it in its defaults alone. `weights` is their
    size in bytes.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        weights: int,
        workplace: Workplace,
        resident: Resident,
        number: int,
        stir: Stir,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._workplace = workplace
        self.model = model
        self._weights = weights
        self.resident = resident
        self.number = number
        # Set while the worker is about to be replaced.
        self.is_leaving = False
        self._use = resident.replicas[number]
        replica = f", replica {number}" if len(resident.replicas) > 1 else ""
        self._label = f"{model.name.short}{replica}"
        self._stir = stir
        self.handover = KeptHandover(self._label, settings.tls)
        self._backoff = backoff or Backoff()
        self._keeping: asyncio.Task[None] | None = None
        self._process: WorkerProcess | None = None
        self._is_replaced = False
        self._socket = ""
        self._ready = Ready(0, "", 0)
        self._pulses = Pulses()
        self._load_count = self._unloads = self._restarts = 0
        self._ready_at: float | None = None
        self._entered_at = time.time()
        self._trouble: ServiceError = Unavailable("the model is not loaded")

    @property
    def state(self) -> EngineState:
        return self._use.state

    def start(self) -> None:
        """Begin to keep the engine running."""
        if self._keeping is None:
            self._enter(EngineState.LOADING)
            self._keeping = asyncio.create_task(self._keep())
            self._keeping.add_done_callback(self._kept)

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

    def restart(self) -> None:
        """Replace the worker; what it is generating moves, or ends with an error. Without a worker: do nothing."""
        if self._process is not None and self.state is EngineState.READY:
            self._is_replaced = True
            self._process.terminate()

    def check(self, lost: Collection[str] = ()) -> None:
        """Raise what the last worker ended with, where a request should not wait for the next one.

        That is while the engine is restarted and, after a failure, until the pause is over. An asker that has `lost` a
        socket of the engine waits for the restart.
        """
        pause = self._backoff.pause
        if (self.state is EngineState.RESTARTING and not lost) or (self.state is EngineState.IDLE and pause > 0):
            raise type(self._trouble)(self._trouble.message, round(pause) + 1)

    def status(self) -> EngineStatus:
        """Return what observers are shown of the engine."""
        has_failed = self.state is EngineState.IDLE and self._backoff.gives_up
        is_restarting = self.state is EngineState.RESTARTING
        return EngineStatus(
            id=self.number, state=EngineState.FAILED if has_failed else self.state,
            reason=self._trouble.message if has_failed or is_restarting else "",
            since=self._entered_at, retry_at=time.time() + self._backoff.pause if is_restarting else None,
            running=self._pulses.running, waiting=self._pulses.waiting,
            tokens_per_second=self._pulses.tokens_per_second,
            memory_bytes=self._use.memory if self.state is EngineState.READY else 0, restarts=self._restarts,
            node=self._process.place if self._process is not None else "",
        )  # fmt: skip

    @property
    def socket(self) -> str:
        """The path of the data socket; empty where no worker listens."""
        return self._socket if self.state is EngineState.READY else ""

    @property
    def is_well(self) -> bool:
        """Whether new requests should come here when another replica serves, too."""
        return not self.is_leaving and not self.must_leave and not self._pulses.is_late

    @property
    def must_leave(self) -> bool:
        """Whether the worker should be replaced by one on another node."""
        return self._process is not None and self._process.must_leave

    @property
    def restarts(self) -> int:
        """How often a worker died, hung or did not load, since the host started."""
        return self._restarts

    @property
    def pause(self) -> float:
        """Seconds until the worker may be started again; 0 where there is nothing to wait for."""
        return self._backoff.pause

    @property
    def ready(self) -> Ready:
        """The report of the last worker that was ready."""
        return self._ready

    @property
    def load(self) -> int:
        """How many sequences run or wait in the worker, and requests are under way to it."""
        return self._use.load

    def measured(self) -> State:
        """Return what the metrics report of the worker."""
        is_ready = self.state is EngineState.READY
        return State(
            self.resident.name, is_ready, self._pulses.running, self._pulses.waiting,
            self._load_count, self._unloads, self._restarts, int(is_ready), (self.status(),),
        )  # fmt: skip

    async def _keep(self) -> None:
        """Start, watch, and start again, until cancelled, or until a model that is not pinned fails to load."""
        while True:
            self._ready_at = None
            self._trouble = await self._live()
            if self._is_replaced:
                self._is_replaced = False
                self._trouble = Unavailable("the engine is being restarted")
                logger.info("%s: its worker has ended as it was asked to; starting another one", self._label)
                self._enter(EngineState.RESTARTING)
                continue
            self._restarts += 1
            self._backoff.failed(None if self._ready_at is None else time.monotonic() - self._ready_at)
            name, pause = self._label, self._backoff.pause
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
            logger.error("%s: the host failed to keep it running", self._label, exc_info=error)
            self._trouble = InternalError()
            self._backoff.bar()
        self._enter(EngineState.IDLE)

    async def _live(self) -> ServiceError:
        """Run one worker from its start to its end, and return why it ended."""
        try:
            process = await self._workplace.start(self.model, self.number)
        except OSError as error:
            return Unavailable(f"the engine worker can't be started: {error.strerror}")
        except ServiceError as error:
            return error
        patience = STOP_SECONDS
        self._process = process
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
            self._process = None
            self._pulses = Pulses()
            self._use.begin()
            process.terminate()
            await asyncio.shield(process.end(patience))

    async def _watch(self, process: WorkerProcess) -> NoReturn:
        """Read the worker's reports until it ends. Raises EngineGone, and TimeoutError when it hangs."""
        reports = PulseWatch(process, self._settings.engine_timeout)
        while True:
            report = await reports.report()
            if isinstance(report, Pulse):
                self._pulses.add(report)
                self._use.forget_unseen()
            elif isinstance(report, Activity):
                self._use.report(report.begun, report.running)
                self._stir(False)
            elif isinstance(report, KeptAnswers):
                self.handover.add(report.streams, self._socket)
                self._stir(True)
            elif isinstance(report, EngineDied):
                raise EngineGone(report.message)

    async def _load(self, process: WorkerProcess) -> None:
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
        await self._is_ready(report, report.address or process.path)
        logger.info(
            "%s is loaded on %s after %.0f s; its context has %d tokens",
            self._label, f"{report.device} of node {process.place}" if process.place else report.device,
            time.monotonic() - began, report.context_length,
        )  # fmt: skip

    async def _is_ready(self, ready: Ready, path: str) -> None:
        if not self._weights:
            # The files of a repository on the hub are on disk only now.
            self._weights = (await asyncio.to_thread(describe, self.model)).size
        self._ready, self._socket = ready, path
        self._load_count += 1
        self._ready_at = time.monotonic()
        self._backoff.loaded()
        self._use.memory = self.model.memory or self._weights + ready.cache_bytes
        self._use.begin()
        self._enter(EngineState.READY)

    async def _log_progress(self, began: float) -> None:
        logger.info("%s: loading from %s", self._label, self.model.source)
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            logger.info("%s: still loading, %.0f s so far", self._label, time.monotonic() - began)

    def _enter(self, state: EngineState) -> None:
        self._use.state = state
        self._entered_at = time.time()
        self._stir(True)
