"""A web tier and an engine host that meet over TLS, each on a machine of its own, or on loopback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.support.answers import chat
from tests.support.certificates import certify
from tests.support.servers import SCRIPTED, Program, Server, free_port
from tests.support.waiting import one_is_done, until

WORDS = " ".join(f"w{number}" for number in range(40))
# Ten seconds: a busy machine needs some of them until all are running.
SCRIPT = f"!rate:4 {WORDS}"
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", chat(SCRIPT)),
    ("/api/chat", chat(SCRIPT, stream="sse")),
    ("/v1/chat/completions", chat(SCRIPT, stream=True)),
    ("/v1/messages", {**chat(SCRIPT), "max_tokens": 100, "stream": True}),
    ("/v1/responses", {"model": "demo", "input": SCRIPT}),
]
# How long a test waits on a busy machine for what takes a dozen seconds on an idle one.
PATIENCE_SECONDS = 120.0


class Place(NamedTuple):
    """Where a program runs: its address, and how to start programs there."""

    address: str
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


LOOPBACK = Place("127.0.0.1")


class Apart:
    """Both are running, and a model answers."""

    def __init__(self, directory: Path, gpu: Place = LOOPBACK, web: Place = LOOPBACK, ports: str = "0") -> None:
        self.pki = directory / "pki"
        self.pki.mkdir()
        self._web = web
        with gpu.inside():
            self.address = f"tls://{gpu.address}:{free_port()}"
            self.host = Program(
                [sys.executable, "-m", "service.engine.host"], directory,
                {**SCRIPTED, "VLLM_WSGI_ENGINE_SOCKET": self.address, "VLLM_WSGI_ENGINE_PORTS": ports,
                 "VLLM_WSGI_TLS": certify(self.pki, [gpu.address], engine=True)},
            )  # fmt: skip
        try:
            with web.inside():
                self.server = Server(directory, self.web_settings())
                self.server.wait_until_ready()
        except BaseException:
            self.host.stop()
            raise

    def web_settings(self) -> dict[str, str]:
        certificates = certify(self.pki, ["web"], engine=False)
        return {"VLLM_WSGI_ENGINE_SOCKET": self.address, "VLLM_WSGI_TLS": certificates, "VLLM_WSGI_MOVES": "2"}

    def stop(self) -> None:
        """Each must leave nothing behind."""
        with self._web.inside():
            self.server.stop()
        self.host.stop()


def begin(server: Server, pool: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """The requests above, all of them running."""
    # The numbers are those of the last second: requests that have just ended must not pass for these.
    server.wait_until_idle()
    posts = [pool.submit(httpx.post, f"{server.url}{path}", json=body, timeout=240) for path, body in REQUESTS]
    until(lambda: server.status().get("running") == len(REQUESTS), PATIENCE_SECONDS, "all run", one_is_done(posts))
    return posts


def answers(posts: list[Future[httpx.Response]]) -> list[tuple[int, list[str], bool]]:
    """The status and the words of each answer, and whether it has an error."""
    results = [post.result() for post in posts]
    return [
        (
            each.status_code,
            re.findall(r"w\d+", each.text.replace("\\n", "\n")),
            '"error":"' in each.text or '"error":{' in each.text,
        )
        for each in results
    ]


WHOLE = [(200, WORDS.split(), False)] * len(REQUESTS)
