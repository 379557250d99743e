"""Print command lines to paste once a model answers.

In: the settings, and the address where the server listens. Out: a few lines on stdout.
"""

from __future__ import annotations

import contextlib
import time
from http.client import HTTPConnection, HTTPException

from ..config import Settings
from ..engine_client.client import Client
from ..errors import ServiceError
from ..protocol.model_info import EngineState, ModelInfo


def announce(settings: Settings, host: str, port: int) -> None:
    """Wait until the server and a model answer, then print which model it is and how to ask it."""
    client = Client(settings.engine_socket, settings.heartbeat, tls=settings.tls)
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
