"""An engine worker as a child process of the host."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from ...config import PREFIX, Settings
from ...errors import EngineGone
from ...models.library import store_directory
from ...models.model import Model
from ...protocol.reports import Report, WorkerOptions
from ...protocol.wire import Unpacker, decode_report
from ...version import module
from ..exit_status import cause
from . import cpu_time

# How long a worker whose lifeline has closed may take to exit before it is reported without its exit status.
EXIT_SECONDS = 1.0


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
        self._unpacker = Unpacker()
        self._reports: list[Report] = []
        self.path = path

    @classmethod
    async def start(cls, settings: Settings, model: Model, path: str, replica: int = 0) -> Process:
        """Start the worker of a replica in a session of its own. Raises OSError.

        A Ctrl-C in the terminal then does not reach the worker, and its children can be ended with it.
        """
        ours, theirs = socket.socketpair()
        options = WorkerOptions(
            path, theirs.fileno(), os.getpid(), settings.engine, model.source, model.engine_args,
            model.tool_parser, model.reasoning_parser, model.template,
            settings.max_queue, model.name.short, settings.traces or "",
            replica if model.replicas > 1 else None, settings.tls,
        )  # fmt: skip
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module("engine.worker.process"), msgspec.json.encode(options).decode(),
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
                env=_environment(store_directory(settings.store) / "cache") | _devices(model, replica),
            )  # fmt: skip
        return cls(process, await asyncio.open_connection(sock=ours), path)

    async def report(self, timeout: float) -> Report:
        """Return the next report.

        Raises EngineGone when the worker has ended, and TimeoutError when it reports nothing for `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while not self._reports:
                data = await self._reader.read(1 << 16)
                if not data:
                    break
                self._reports += [decode_report(payload) for payload in self._unpacker.feed(data)]
        if not self._reports:
            raise EngineGone(f"the engine worker {cause(await self._status())}")
        return self._reports.pop(0)

    async def _status(self) -> int | None:
        """The exit status; None where the process still runs after EXIT_SECONDS."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        return None

    def cpu_seconds(self, own: bool) -> float | None:
        """Return the CPU time of the worker's `own` process, or of all its other ones; None where it is not known."""
        return (cpu_time.of_process if own else cpu_time.of_children)(self._process.pid)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def end(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for the worker to exit, kill its whole session, and return the exit status."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        status = await self._process.wait()
        self._writer.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        return status


def _environment(cache: Path) -> dict[str, str]:
    """The worker's environment: quiet and private unless the operator says otherwise.

    What vLLM, torch and Triton compile is kept under `cache`. VLLM_WSGI_* is left out, since vLLM takes each variable
    that begins with VLLM_ for one of its own, misspelt.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # vLLM must not write its metrics into the files of the application that started the host.
    kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torchinductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        # The web worker sends its traces in the same way.
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "vllm-wsgi-engine",
    }
    return defaults | kept


def _devices(model: Model, replica: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": model.devices[replica]} if model.devices else {}
