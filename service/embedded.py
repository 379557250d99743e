"""The engine host as a child of the gunicorn master: one machine, one command, nothing left behind.

A thread of the master starts the host and starts it again when it ends; the host ends with the master, however that
goes. Nothing here is needed where the settings name a host that runs already.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection

from .client import Client
from .config import Settings
from .errors import ServiceError
from .messages import ModelInfo

logger = logging.getLogger("gunicorn.error")

RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0


class EmbeddedHost:
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
        command = [sys.executable, "-m", f"{__package__}.engine.host", "--parent", str(os.getpid())]
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


def announce(settings: Settings, host: str, port: int) -> None:
    """Say when a model answers, with two lines to paste. Blocks until then."""
    client = Client(settings.engine_socket, settings.heartbeat)
    info = None
    while not (info and _serves(host, port, settings.prefix)):
        time.sleep(0.2)
        with contextlib.suppress(ServiceError):
            info = _answering(client)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.prefix}/api"
    name = info.name.removesuffix(":latest")
    key = ' -H "Authorization: Bearer $KEY"' if settings.keys else ""
    if "embedding" in info.capabilities:
        body = f'{{"model": "{name}", "input": "What is vllm-wsgi?"}}'
        print(f"\n{name} answers. Try it:\n\n  curl{key} {url}/embed -d '{body}'\n", flush=True)
        return
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "What is vllm-wsgi?"}}]}}'
    print(
        f"\n{name} answers. Try it, as NDJSON and as server-sent events:\n\n"
        f"  curl -N{key} {url}/chat -d '{body}'\n\n"
        f"  curl -N{key} -H 'Accept: text/event-stream' {url}/chat -d '{body}'\n",
        flush=True,
    )


def _answering(client: Client) -> ModelInfo | None:
    """A model that is loaded, or one that will be when it is asked for, where none is loaded at the start."""
    loaded = client.loaded()
    ready = [model.info for model in loaded if model.state == "ready"]
    infos = ready or ([] if loaded else client.models())
    return infos[0] if infos else None


def _serves(host: str, port: int, prefix: str) -> bool:
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", f"{prefix}/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
