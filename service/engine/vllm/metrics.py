"""vLLM's own metrics, and how many requests it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import Metric
from vllm.v1.metrics.loggers import StatLoggerBase


class RunningRequests(StatLoggerBase):  # type: ignore[misc]
    """The number of requests that ran in the last decode step, of all data-parallel ranks together."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        self.running = 0
        self._by_rank: dict[int, int] = {}

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        if scheduler_stats is not None:
            self._by_rank[engine_idx] = scheduler_stats.num_running_reqs
            self.running = sum(self._by_rank.values())

    def log_engine_initialized(self) -> None:
        """Log nothing."""


class VllmMetrics:
    """A Prometheus collector of vLLM's metrics, which vLLM keeps in this process wherever its core runs.

    Each sample gets the label `model_name`, which distinguishes the engines. Where a model has several replicas, the
    label `replica` distinguishes them. The metrics of this process are left out.
    """

    def __init__(self, name: str, replica: int | None = None) -> None:
        self._labels = {"model_name": name} | ({} if replica is None else {"replica": str(replica)})

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            if metric.name.startswith("vllm:"):
                metric.samples = [sample._replace(labels=sample.labels | self._labels) for sample in metric.samples]
                yield metric

    def text(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self).decode()
