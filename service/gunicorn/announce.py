"""Print command lines to paste once a model answers.

In: the settings, and the address where the server listens. Out: a few lines on stdout, printed by one web worker.

The master waits for nothing itself. It forks web workers at any time, and a lock that another of its threads holds at
that moment, such as the one of a module that the thread imports, would stay held in the new worker for ever.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from http.client import HTTPConnection, HTTPException

from ..config import Settings
from ..engine_client.client import Client
from ..errors import ServiceError
from ..protocol.model_info import EngineState, ModelInfo


class Announcement:
    """Made by the master before the first web worker starts; each worker has it, and one of them prints it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        # One byte for all workers: whoever reads it prints, the others find the end of the pipe.
        self._turn, writing = os.pipe()
        os.write(writing, b"1")
        os.close(writing)

    def start(self) -> None:
        """Wait in a thread of this web worker; returns at once. gevent makes a greenlet of it."""
        threading.Thread(target=self._run, args=[Settings.from_env()], name="announcement", daemon=True).start()

    def _run(self, settings: Settings) -> None:
        """Wait until the server and a model answer, then print which model it is and how to ask it."""
        client = Client(settings.engine_socket, settings.heartbeat, tls=settings.tls)
        info = None
        while not (info and _serves(self._host, self._port, settings.prefix)):
            time.sleep(0.2)
            with contextlib.suppress(ServiceError):
                info = _answering(client)
        if os.read(self._turn, 1):
            host = f"[{self._host}]" if ":" in self._host else self._host
            print(commands(info, f"http://{host}:{self._port}{settings.prefix}/api", bool(settings.keys)), flush=True)


def commands(info: ModelInfo, url: str, with_key: bool) -> str:
    """Return the lines that say how to ask a model; `url` is where the routes of Ollama's API begin."""
    name = info.name.removesuffix(":latest")
    key = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    if "embedding" in info.capabilities:
        body = f'{{"model": "{name}", "input": "What is vllm-wsgi?"}}'
        return f"\n{name} answers. Try it:\n\n  curl{key} {url}/embed -d '{body}'\n"
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "What is vllm-wsgi?"}}]}}'
    return (
        f"\n{name} answers. Try it, as NDJSON and as server-sent events:\n\n"
        f"  curl -N{key} {url}/chat -d '{body}'\n\n"
        f"  curl -N{key} -H 'Accept: text/event-stream' {url}/chat -d '{body}'\n"
    )


def _answering(client: Client) -> ModelInfo | None:
    """Return a loaded model. When none is loaded at the start, return one that a request would load."""
    loaded = client.loaded()
    ready = [model.info for model in loaded if model.state is EngineState.READY]
    infos = ready or ([] if loaded else client.models())
    return infos[0] if infos else None


def _serves(host: str, port: int, prefix: str) -> bool:
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", f"{prefix}/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
