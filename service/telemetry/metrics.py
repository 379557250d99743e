"""The web worker's part in the metrics: it reports each ended request to the engine host, which holds the sums.

The host counts for all web workers. So the web workers share nothing, one that dies loses at most the counts of its
last moments, and each of them can answer /metrics for all. prometheus_client's own way are files that all web workers
map. They need a variable that is set before the first import, which only the application can do, and they grow with
each restart.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time

from ..engine_client.client import Client
from ..engine_client.per_process import PerProcess
from ..errors import BadRequest, ServiceError
from ..protocol.commands import RequestOutcome

logger = logging.getLogger("vllm_wsgi.web")

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# This many outcomes are kept while the engine host can't be reached; later ones are not counted.
MAX_KEPT = 10_000
RETRY_SECONDS = 1.0

UP = "# HELP vllm_wsgi_engine_host_up Whether the engine host answers.\n# TYPE vllm_wsgi_engine_host_up gauge\n"

_FAMILY = re.compile(r"^(?=# HELP )", re.MULTILINE)


class MetricsReporter:
    """Reports to the engine host in a thread (a greenlet where gevent has patched), so that no request waits for it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept = PerProcess(self._start)

    def report(self, ended: RequestOutcome) -> None:
        """Add an outcome to those that are reported next. Never blocks."""
        try:
            self._kept.get().put_nowait(ended)
        except queue.Full:
            logger.debug("a request is not counted: the engine host has not been reached for long")

    def _start(self) -> queue.Queue[RequestOutcome]:
        """Start the thread that reports, and return where it takes the outcomes from."""
        kept: queue.Queue[RequestOutcome] = queue.Queue(MAX_KEPT)
        threading.Thread(target=self._run, args=[kept], name="metrics", daemon=True).start()
        return kept

    def _run(self, kept: queue.Queue[RequestOutcome]) -> None:
        while True:
            ended = [kept.get()]
            # Others that end now go with it: a message costs both processes more than an outcome in it.
            time.sleep(0)
            while not kept.empty():
                ended.append(kept.get_nowait())
            while not self._sent(ended):
                time.sleep(RETRY_SECONDS)

    def _sent(self, ended: list[RequestOutcome]) -> bool:
        """Return whether the outcomes need not be sent again."""
        try:
            self._client.count(ended)
        except BadRequest:
            # An outcome holds names that clients have sent. One that can't be encoded must not hold back the others.
            for each in ended if len(ended) > 1 else []:
                self._sent([each])
        except ServiceError:
            return False
        return True


def exposition(client: Client) -> str:
    """Return the metrics of all processes; while the engine host can't be reached, only a gauge that reports this."""
    try:
        return joined([f"{UP}vllm_wsgi_engine_host_up 1\n", *client.metrics()])
    except ServiceError:
        return f"{UP}vllm_wsgi_engine_host_up 0\n"


def joined(texts: list[str]) -> str:
    """Join texts in Prometheus' format, which allows a family once: all samples of a family come together."""
    families: dict[str, str] = {}
    for text in texts:
        for family in filter(None, _FAMILY.split(text)):
            helped, typed, samples = family.split("\n", 2)
            head = f"{helped}\n{typed}\n"
            families[head] = families.get(head, "") + samples
    return "".join(head + samples for head, samples in families.items())
