"""The web worker's part in the metrics: the engine host is told of each request that has ended, and asked for the sums.

The host counts for all web workers. So nothing is shared between these, a web worker that dies takes at most its last
moments along, and any of them answers /metrics for all. (prometheus_client's own way, files that all web workers map,
would need a variable set before anyone imports it, which is the application's to decide, and grow with each restart.)
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time

from ..engine_client.client import Client
from ..errors import ServiceError
from ..protocol.commands import RequestOutcome

logger = logging.getLogger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# While the host is away so many are kept; what comes then is not counted.
MAX_KEPT = 10_000
RETRY_SECONDS = 1.0

UP = "# HELP vllm_wsgi_engine_host_up Whether the engine host answers.\n# TYPE vllm_wsgi_engine_host_up gauge\n"

_FAMILY = re.compile(r"^(?=# HELP )", re.MULTILINE)


class MetricsReporter:
    """Tells the host, in a thread (a greenlet where gevent has patched), so that no request waits for it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._starting = threading.Lock()
        self._pid = 0

    def report(self, ended: RequestOutcome) -> None:
        if self._pid != os.getpid():
            self._start()
        try:
            self._kept.put_nowait(ended)
        except queue.Full:
            logger.debug("the engine host is away for long; a request is not counted")

    def _start(self) -> None:
        """Threads stay with the parent in a fork."""
        with self._starting:
            if self._pid != os.getpid():
                self._kept: queue.Queue[RequestOutcome] = queue.Queue(MAX_KEPT)
                threading.Thread(target=self._run, name="metrics", daemon=True).start()
                self._pid = os.getpid()

    def _run(self) -> None:
        while True:
            ended = [self._kept.get()]
            while not self._kept.empty():
                ended.append(self._kept.get_nowait())
            while not self._sent(ended):
                time.sleep(RETRY_SECONDS)

    def _sent(self, ended: list[RequestOutcome]) -> bool:
        try:
            self._client.count(ended)
        except ServiceError:
            return False
        return True


def exposition(client: Client) -> str:
    """Everyone's metrics; where the engine host is away, that it is."""
    try:
        return joined([f"{UP}vllm_wsgi_engine_host_up 1\n", *client.metrics()])
    except ServiceError:
        return f"{UP}vllm_wsgi_engine_host_up 0\n"


def joined(texts: list[str]) -> str:
    """One text; a family that several have stands there once, as the format demands, with the samples of all."""
    families: dict[str, str] = {}
    for text in texts:
        for family in filter(None, _FAMILY.split(text)):
            helped, typed, samples = family.split("\n", 2)
            head = f"{helped}\n{typed}\n"
            families[head] = families.get(head, "") + samples
    return "".join(head + samples for head, samples in families.items())
