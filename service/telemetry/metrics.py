"""The web worker's part in the metrics: the engine host is told of each request that has ended, and asked for the sums.

The host counts for all web workers. So nothing is shared between these, a web worker that dies takes at most its last
moments along, and any of them answers /metrics for all. (prometheus_client's own way, files that all web workers map,
would need a variable set before anyone imports it, which is the application's to decide, and grow with each restart.)
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time

from ..engine_client.client import Client
from ..errors import ServiceError
from ..fork import renew_after_fork
from ..protocol.commands import RequestOutcome

logger = logging.getLogger("vllm_wsgi.web")

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
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without a thread and without what waits for it."""
        self._starting = threading.Lock()
        self._waiting: queue.Queue[RequestOutcome] | None = None

    def report(self, ended: RequestOutcome) -> None:
        """Report an ended request; returns at once."""
        try:
            self._queue().put_nowait(ended)
        except queue.Full:
            logger.debug("the engine host is away for long; a request is not counted")

    def _queue(self) -> queue.Queue[RequestOutcome]:
        with self._starting:
            if self._waiting is None:
                self._waiting = queue.Queue(MAX_KEPT)
                threading.Thread(target=self._run, args=(self._waiting,), name="metrics", daemon=True).start()
            return self._waiting

    def _run(self, waiting: queue.Queue[RequestOutcome]) -> None:
        while True:
            ended = [waiting.get()]
            while not waiting.empty():
                ended.append(waiting.get_nowait())
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
