"""One model's place in the host: its worker process, watched and replaced for as long as the model is wanted.

idle ──▶ loading ──▶ ready ──▶ (dies, hangs) restarting ──▶ ready …
  ▲                    │
  └──── unloading ◀────┘
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from .. import messages
from ..config import PREFIX, Settings
from ..errors import EngineGone, ServiceError, Unavailable
from ..messages import Broken, LoadedModel, ModelInfo, Pulse, Ready, Report
from .store import Model
from .worker import WorkerOptions

# Of worker processes, over all models.
_numbers = itertools.count(1)

logger = logging.getLogger("vllm_wsgi.host")

BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# A worker that lived so long did not fail in loading: the next back-off begins anew.
HEALTHY_SECONDS = 60.0
# What a worker gets to end vLLM's processes in after SIGTERM, before SIGKILL.
STOP_SECONDS = 20.0
PROGRESS_SECONDS = 5.0


class Process:
    """A worker process and the host's end of its lifeline."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        lifeline: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        path: str,
    ) -> None:
        self._process = process
        self._reader, self._writer = lifeline
        self._unpacker = messages.Unpacker()
        self._reports: list[Report] = []
        self.path = path

    @classmethod
    async def start(cls, settings: Settings, model: Model, path: str) -> Process:
        """In a session of its own: a Ctrl-C in the terminal is not for it, and its children can be ended with it."""
        ours, theirs = socket.socketpair()
        options = WorkerOptions(
            path, theirs.fileno(), os.getpid(), settings.engine, model.source, model.engine_args,
            model.tool_parser, model.reasoning_parser,
        )  # fmt: skip
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"{__package__}.worker", msgspec.json.encode(options).decode(),
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )  # fmt: skip
        return cls(process, await asyncio.open_connection(sock=ours), path)

    async def report(self, timeout: float) -> Report:
        """The next report; raises EngineGone when the worker has ended, or reports nothing for `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not self._reports:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise EngineGone("the engine worker died")
                self._reports += [messages.decode_report(payload) for payload in self._unpacker.feed(data)]
        return self._reports.pop(0)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def end(self, timeout: float) -> int:
        """Wait for the end, at the most `timeout` seconds, then kill the worker's whole session; the exit status."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        status = await self._process.wait()
        self._writer.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        return status


def _environment() -> dict[str, str]:
    """Quiet and private unless the operator says otherwise; our own variables look like misspelt ones to vLLM."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
    }
    return defaults | ours


class Slot:
    """Keeps one model served while it is wanted."""

    def __init__(self, settings: Settings, model: Model, info: ModelInfo, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self.model = model
        self.info = info
        self.state = "idle"
        self._keeping: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._socket = ""
        self._ready = Ready(0, "", 0)
        self._pulse = Pulse(0, 0)
        self._restarts = 0
        self._trouble: ServiceError = Unavailable("the model is not loaded")

    def load(self) -> None:
        """Begin to keep the model served."""
        if self._keeping is None:
            self.state = "loading"
            self._keeping = asyncio.create_task(self._keep())

    async def unload(self) -> None:
        """End the worker; what it was generating ends with an error."""
        if self._keeping is not None:
            self.state = "unloading"
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def located(self) -> str:
        """The data socket, once the model is loaded; loads it if need be. Raises Unavailable while it is restarted."""
        while self.state not in ("ready", "restarting"):
            if self.state == "idle":
                self.load()
            async with self._changed:
                await self._changed.wait_for(lambda: self.state not in ("loading", "unloading"))
        if self.state == "restarting":
            raise self._trouble
        return self._socket

    def loaded(self) -> LoadedModel:
        return LoadedModel(
            info=self.info,
            state=self.state,
            running=self._pulse.running,
            waiting=self._pulse.waiting,
            size=self.info.size + self._ready.cache_bytes,
            context_length=self._ready.context_length,
            restarts=self._restarts,
            device=self._ready.device,
        )

    async def _keep(self) -> None:
        """Start, watch, and start again; ends only when cancelled."""
        failures = 0
        try:
            while True:
                began = time.monotonic()
                trouble = await self._live()
                self._restarts += 1
                failures = 0 if time.monotonic() - began > HEALTHY_SECONDS else failures + 1
                pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1] if failures else 0.0
                trouble.retry_after = round(pause) + 1
                self._trouble = trouble
                await self._enter("restarting")
                logger.error("%s: %s; starting again in %g s", self.model.name.short, trouble.message, pause)
                await asyncio.sleep(pause)
        finally:
            self._keeping = None
            await self._enter("idle")

    async def _live(self) -> ServiceError:
        """One worker's life; why it ended."""
        name = f"worker-{next(_numbers)}.sock"
        process = await Process.start(self._settings, self.model, str(self._directory / name))
        patience = STOP_SECONDS
        try:
            await self._load(process)
            while True:
                report = await process.report(self._settings.engine_timeout)
                if isinstance(report, Pulse):
                    self._pulse = report
        except TimeoutError:
            patience = 0.0
            return EngineGone(f"the engine has answered nothing for {self._settings.engine_timeout:g} s")
        except ServiceError as error:
            patience = 1.0
            return error
        finally:
            self._pulse = Pulse(0, 0)
            process.terminate()
            await asyncio.shield(process.end(patience))

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
        if isinstance(report, Broken):
            raise Unavailable(f"the model can't be loaded: {report.message}")
        assert isinstance(report, Ready)
        self._ready = report
        self._socket = process.path
        await self._enter("ready")
        logger.info(
            "%s is loaded on %s after %.0f s; its context has %d tokens",
            self.model.name.short, report.device, time.monotonic() - began, report.context_length,
        )  # fmt: skip

    async def _tell_progress(self, began: float) -> None:
        logger.info("%s: loading from %s", self.model.name.short, self.model.source)
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            logger.info("%s: still loading, %.0f s so far", self.model.name.short, time.monotonic() - began)

    async def _enter(self, state: str) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()
