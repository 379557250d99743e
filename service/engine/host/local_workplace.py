"""Engine workers as child processes of the host, on its own machine."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import msgspec

from ...config import Settings
from ...errors import EngineGone
from ...models.model import Model
from ...protocol.reports import Report
from ...protocol.wire import Unpacker, decode_report
from ...version import module
from .. import cpu_time
from ..exit_status import cause
from ..worker_launch import compile_cache, worker_environment, worker_options

# How long a worker whose lifeline has closed may take to exit before it is reported without its exit status.
EXIT_SECONDS = 1.0


class LocalWorkplace:
    """`new_socket` returns where a worker listens, by its number."""

    def __init__(self, settings: Settings, new_socket: Callable[[int], str]) -> None:
        self._settings = settings
        self._new_socket = new_socket
        # Numbers the worker processes of all models, for the names of their sockets.
        self._numbers = itertools.count(1)

    async def start(self, model: Model, replica: int) -> LocalProcess:
        """Start the worker of a replica in a session of its own. Raises OSError.

        A Ctrl-C in the terminal then does not reach the worker, and its children can be ended with it.
        """
        path = self._new_socket(next(self._numbers))
        ours, theirs = socket.socketpair()
        options = worker_options(self._settings, model, replica, path, theirs.fileno(), os.getpid())
        with theirs:
            # Opened first: nothing is waited for once there is a process, which a cancelled wait would leave behind.
            lifeline = await asyncio.open_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module("engine.worker.process"), msgspec.json.encode(options).decode(),
                    pass_fds=[theirs.fileno()], start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
                    env=worker_environment(compile_cache(self._settings)) | _devices(model, replica),
                )  # fmt: skip
            except BaseException:
                lifeline[1].close()
                raise
        return LocalProcess(process, lifeline, path)


class LocalProcess:
    """A worker process and the host's end of its lifeline."""

    place = ""
    must_leave = False

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

    async def report(self, timeout: float) -> Report:
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
            async with asyncio.timeout(EXIT_SECONDS):
                return await self._process.wait()
        return None

    def cpu_seconds(self, own: bool) -> float | None:
        return (cpu_time.of_process if own else cpu_time.of_children)(self._process.pid)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def end(self, timeout: float) -> None:
        """As in WorkerProcess; kills the whole session, and removes the socket."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._writer.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def _devices(model: Model, replica: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": model.devices[replica]} if model.devices else {}
