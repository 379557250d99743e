"""The engine host as a child of the gunicorn master: one machine, one command, nothing left behind.

In: the master's environment. Out: the path of the host's control socket. A thread of the master starts the host, and
starts it again when it exits; the host exits with the master, even when the master is killed. Not used when
VLLM_WSGI_ENGINE_SOCKET names a host that runs already.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading

from ..version import module

logger = logging.getLogger("gunicorn.error")

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0


class EngineHostChild:
    """Its sockets are in a new directory of mode 0700, which is removed at the end."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="vllm-wsgi-")
        self.socket = os.path.join(self._directory, "engine.sock")
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # Popen waits until its pipe is closed. A web worker that is forked meanwhile would inherit it and keep it open.
        self._forking = threading.Lock()
        os.register_at_fork(
            before=self._forking.acquire, after_in_parent=self._forking.release, after_in_child=self._forking.release
        )
        # Linux kills the host when the thread that started it ends, so this thread lives as long as the master.
        self._thread = threading.Thread(target=self._keep, name="engine-host", daemon=True)

    def start(self) -> None:
        """Start the host; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the host and its workers, and return when they have exited."""
        logger.info("Stopping the engine.")
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(STOP_SECONDS)
        if self._process is not None and self._thread.is_alive():
            self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._run()
                trouble = "the engine host has exited"
            except OSError as error:
                trouble = f"the engine host can't be started: {error}"
            if not self._stopping.wait(RESTART_SECONDS):
                logger.error("%s; starting it again", trouble)

    def _run(self) -> None:
        """Run one host until it exits. Raises OSError when it can't be started."""
        command = [sys.executable, "-m", module("engine.host"), "--parent", str(os.getpid())]
        # In a session of its own, since a Ctrl-C in the terminal is for the master, which first lets streams end.
        # The master alone reports to systemd, and the application's metric files are not for the host.
        theirs = ("NOTIFY_SOCKET", "PROMETHEUS_MULTIPROC_DIR")
        with self._forking:
            environment = {name: value for name, value in os.environ.items() if name not in theirs}
            self._process = subprocess.Popen(command, start_new_session=True, env=environment)
        if self._stopping.is_set():
            # `stop` was called before there was a process to stop.
            self._process.terminate()
        # gunicorn's master reaps every child, so the exit status may be lost and is not used.
        self._process.wait()
