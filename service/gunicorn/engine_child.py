"""The engine host as a child of the gunicorn master: one machine, one command, nothing left behind.

A thread of the master starts the host and starts it again when it ends; the host ends with the master, however that
goes. Nothing here is needed where the settings name a host that runs already.
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
    """`directory` is fresh, ours alone (mode 0700), and goes at the end."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="vllm-wsgi-")
        self.socket = os.path.join(self._directory, "engine.sock")
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # A web worker that is forked while Popen starts the host inherits Popen's pipe, and Popen waits for its end.
        self._forking = threading.Lock()
        os.register_at_fork(
            before=self._forking.acquire, after_in_parent=self._forking.release, after_in_child=self._forking.release
        )
        # Linux ends the host when the thread that started it ends, so this thread lives as long as the master.
        self._thread = threading.Thread(target=self._keep, name="engine-host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the host and its workers; returns when they are gone."""
        logger.info("Ending the engine; vLLM takes a few seconds for that.")
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(STOP_SECONDS)
        if self._process is not None and self._thread.is_alive():
            self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _keep(self) -> None:
        command = [sys.executable, "-m", module("engine.host"), "--parent", str(os.getpid())]
        while not self._stopping.is_set():
            # A session of its own: a Ctrl-C in the terminal is for the master, which lets streams end first. What it
            # would tell systemd is the master's to tell, and an application's metrics are its own to keep in files.
            theirs = ("NOTIFY_SOCKET", "PROMETHEUS_MULTIPROC_DIR")
            with self._forking:
                environment = {name: value for name, value in os.environ.items() if name not in theirs}
                self._process = subprocess.Popen(command, start_new_session=True, env=environment)
            if self._stopping.is_set():
                # Told to stop before there was anything to stop.
                self._process.terminate()
            # The master reaps every child that ends, so the status may be lost, and is not asked for.
            self._process.wait()
            if not self._stopping.wait(RESTART_SECONDS):
                logger.error("the engine host ended; starting it again")
