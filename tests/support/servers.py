"""Servers for the tests, started as their users start them and stopped so that nothing of them is left.

What a program starts inherits a mark in its environment, so that its processes are found whoever their parent is by
then; those that write their title over it (gunicorn, vLLM) are found by their session. Nothing here is known by name
alone and nothing waits for a fixed time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.processes import command, lives, session
from tests.support.waiting import PATIENCE_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
MARK = "TESTS_PROGRAM"
# Most tests that harm an engine want to see what becomes of its requests; those of moves allow some.
SCRIPTED = {"VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_MOVES": "0"}
# What vLLM learns of a model's class takes it ten seconds; the servers of a test run share it.
VLLM_CACHE = os.environ.get("VLLM_CACHE_ROOT", str(Path(tempfile.gettempdir()) / "vllm-wsgi-tests-cache"))
# A server whose engine has failed this often during one wait will not have it ready.
HOPELESS_RESTARTS = 3


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def clean_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The tests' own environment without what would configure a server, and `env`."""
    ours = ("MODEL", "HOST", "PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("VLLM_WSGI_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **env}


class Program:
    """A program and all that it starts, in a session of its own; what they print goes to a file in `directory`."""

    def __init__(
        self, arguments: list[str], directory: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self._mark = uuid.uuid4().hex
        self.directory = directory
        self._log = directory / f"{self._mark}.log"
        store = {"VLLM_WSGI_STORE": str(directory / "store"), "VLLM_CACHE_ROOT": VLLM_CACHE}
        environment = clean_environment(store | dict(env or {})) | {MARK: self._mark}
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                arguments, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self._popen.pid
        self._sessions = {self.pid}

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def engine_failures(self) -> list[str]:
        """What the host has logged of engines that died, hung or did not load."""
        return [line for line in self.output.splitlines() if "; starting again in" in line or "; not tried" in line]

    def ended(self) -> bool:
        """Whether the program itself has; what it started may live on."""
        return self._popen.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """Every process of it that lives; one that has ended and waits for its parent does not."""
        self._popen.poll()
        everyone = list(psutil.process_iter())
        # A process that is just ending has session 0, as the system's own processes have.
        self._sessions |= {session(process) for process in everyone if self._is_marked(process)} - {-1, 0}
        return [process for process in everyone if session(process) in self._sessions and lives(process)]

    def running(self, module: str) -> list[int]:
        """The pids of those that were started as `python -m module`."""
        return [process.pid for process in self.processes() if module in command(process)]

    def signal_all(self, number: signal.Signals) -> None:
        """To its process group, as a terminal does."""
        os.killpg(self.pid, number)

    def wait_until_gone(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Until no process of it lives; the seconds that it took."""
        try:
            return until(lambda: not self.processes(), seconds, "every process has ended")
        except AssertionError as error:
            left = [f"{process.pid} {' '.join(command(process))[:100]}" for process in self.processes()]
            raise AssertionError(f"{error}; left: {left}\n{self.output[-3000:]}") from None

    def stop(self, seconds: float = PATIENCE_SECONDS) -> float:
        """SIGTERM; fails where anything is left after `seconds`, and ends it."""
        if not self.ended():
            self._popen.terminate()
        try:
            return self.wait_until_gone(seconds)
        finally:
            self._kill()

    def _kill(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._popen.wait(120)

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark
        except psutil.Error:
            return False


class WebProgram(Program):
    """A program that serves HTTP on 127.0.0.1; `url` is where our routes begin."""

    def __init__(
        self,
        arguments: list[str],
        directory: Path,
        port: int,
        env: Mapping[str, str] | None = None,
        prefix: str = "",
        cwd: Path = ROOT,
    ) -> None:
        self.port = port
        # What the questions below bring along: a key, where the server asks for one.
        self.headers: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{port}{prefix}"
        super().__init__(arguments, directory, env, cwd)

    def models(self) -> list[dict[str, Any]]:
        """The models that answer: `/api/ps`; none where nobody does."""
        try:
            answer = httpx.get(f"{self.url}/api/ps", timeout=5, verify=False, headers=self.headers)
        except httpx.TransportError:
            return []
        return list(answer.json()["models"]) if answer.status_code == 200 else []

    def status(self) -> dict[str, Any]:
        """The one model's entry of `/api/status`: name, state, running, waiting, restarts; empty where it has none."""
        try:
            answer = httpx.get(f"{self.url}/api/status", timeout=5, verify=False, headers=self.headers)
        except httpx.TransportError:
            return {}
        models = answer.json()["vllm_wsgi"]["models"] if answer.status_code == 200 else []
        return dict(models[0]) if models else {}

    def serves(self) -> bool:
        """Whether it knows models, loaded or not."""
        try:
            return httpx.get(f"{self.url}/api/tags", timeout=5, headers=self.headers).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_ready(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Until a model answers; the seconds that it took."""
        return self._wait_until(self.models, seconds, "a model answers")

    def wait_until_serving(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Until it knows its models, none of which need be loaded; the seconds that it took."""
        return self._wait_until(self.serves, seconds, "the server serves")

    def _wait_until(self, condition: Callable[[], Any], seconds: float, what: str) -> float:
        try:
            # Each question is a request, and takes CPU time from the server that starts.
            return until(condition, seconds, what, self._hopeless(), pause=0.1)
        except AssertionError as error:
            output = self.output
            self._kill()
            raise AssertionError(f"{error}:\n{output[-3000:]}") from None

    def _hopeless(self) -> Callable[[], str]:
        """Return an `unless` for waits for the server: it has ended, or its engine fails again and again."""
        before, look_at = len(self.engine_failures()), time.monotonic()

        def unless() -> str:
            nonlocal look_at
            if self.ended():
                return f"the program has ended:\n{self.output[-3000:]}"
            if time.monotonic() < look_at:
                return ""
            # Rarely, since the output may be long.
            look_at = time.monotonic() + 1
            failures = self.engine_failures()[before:]
            return f"the engine fails: {failures}" if len(failures) >= HOPELESS_RESTARTS else ""

        return unless

    def wait_until_idle(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Until nothing runs in the engine or waits for it; the seconds it took. The engine reports once a second."""
        return until(self._is_idle, seconds, "the engine runs nothing", self._hopeless())

    def _is_idle(self) -> bool:
        status = self.status()
        return status.get("running") == status.get("waiting") == 0

    def wait_until_running(
        self, requests: int = 1, seconds: float = PATIENCE_SECONDS, unless: Callable[[], str] = lambda: ""
    ) -> float:
        """Until the engine runs that many; `unless` is as in `until`."""
        hopeless = self._hopeless()
        running = f"the engine runs {requests}"
        return until(lambda: self.status().get("running") == requests, seconds, running, lambda: hopeless() or unless())

    def connect(self) -> socket.socket:
        """A bare connection, for what no HTTP client does."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=120)


class Server(WebProgram):
    """`gunicorn -c gunicorn.conf.py wsgi:app` with its engine host and workers; `env` configures them."""

    def __init__(self, directory: Path, env: Mapping[str, str] = SCRIPTED, app: str = "wsgi:app") -> None:
        port = free_port()
        gunicorn = [sys.executable, "-m", "gunicorn"]
        super().__init__(
            [*gunicorn, "-c", "gunicorn.conf.py", app], directory, port,
            {**env, "HOST": "127.0.0.1", "PORT": str(port)},
        )  # fmt: skip

    @classmethod
    def start(
        cls, directory: Path, env: Mapping[str, str] = SCRIPTED, ready_seconds: float = PATIENCE_SECONDS
    ) -> Server:
        """A server whose model answers."""
        server = cls(directory, env)
        server.wait_until_ready(ready_seconds)
        return server

    @property
    def master(self) -> int:
        return self.pid

    def web_workers(self) -> list[int]:
        """All of the master's session but the master."""
        return [each.pid for each in self.processes() if session(each) == self.pid != each.pid]

    def engine_hosts(self) -> list[int]:
        return self.running("service.engine.host")

    def engine_workers(self) -> list[int]:
        return self.running("service.engine.worker.process")


class EngineHost(Program):
    """`python -m service.engine.host`, scripted unless `env` says otherwise."""

    def __init__(self, directory: Path, env: Mapping[str, str] = SCRIPTED) -> None:
        self.socket = str(directory / "engine.sock")
        arguments = [sys.executable, "-m", "service.engine.host"]
        super().__init__(arguments, directory, {**env, "VLLM_WSGI_ENGINE_SOCKET": self.socket})
