"""The sums over all web workers' requests, and the state of the engines, in Prometheus' text format.

No client can choose a label: the host looks each model's name up first, and counts a name that it does not know as
"unknown". The series of a model that is deleted are removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ...protocol.commands import RequestOutcome
from ...protocol.live import EngineStatus
from ...protocol.model_info import ClusterNode, EngineState

UNKNOWN = "unknown"

# Seconds: to a first token that may wait for a model, between two tokens, and in a queue.
FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
PAUSE = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60)
QUEUE = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class State(NamedTuple):
    """The state of one engine, over all its replicas. `loads` to `restarts` are counted since the host started.

    `workers` are its engine workers, one for each replica.
    """

    model: str
    loaded: bool
    running: int
    waiting: int
    loads: int
    unloads: int
    restarts: int
    replicas: int
    workers: tuple[EngineStatus, ...] = ()


# The fields that add up over the replicas.
SUMS = ("running", "waiting", "loads", "unloads", "restarts", "replicas")
STATES = (
    (GaugeMetricFamily, "loaded", "model_loaded", "Whether the model is in memory and answers."),
    (GaugeMetricFamily, "replicas", "model_replicas", "How many replicas of the model answer."),
    (GaugeMetricFamily, "running", "requests_running", "Requests that the model's engine runs."),
    (GaugeMetricFamily, "waiting", "requests_waiting", "Requests that wait for the model, to be loaded or to run."),
    (CounterMetricFamily, "loads", "model_loads", "How often the model has been loaded."),
    (CounterMetricFamily, "unloads", "model_unloads", "How often the model has been unloaded."),
    (CounterMetricFamily, "restarts", "engine_restarts", "How often the engine died, hung or did not load."),
)
# Of each engine worker. A worker that has no node yet, or none at all, has an empty one.
WORKERS = (
    ("replica_ready", "Whether the replica answers. `node` is empty on the engine host's own machine."),
    ("replica_requests_running", "Requests that the replica runs."),
    ("replica_requests_waiting", "Requests that wait in the replica."),
)
NODES = (
    ("node_gpus", "GPUs of a node of the cluster that is alive."),
    ("node_free_gpus", "GPUs of the node that no engine worker holds."),
)


class Metrics:
    """Counts the requests that have ended."""

    def __init__(self) -> None:
        # The creation times would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        started = Gauge(
            "vllm_wsgi_engine_host_start_time_seconds",
            "When the engine host started, and all sums began, in Unix time.",
            registry=self._registry,
        )
        started.set_to_current_time()
        self._ended = Counter(
            "vllm_wsgi_requests",
            "Requests that have ended, by how: done, client_gone, refused, drained or error.",
            ["route", "model", "ending", "error"],
            registry=self._registry,
        )
        self._moves = Counter(
            "vllm_wsgi_moves",
            "Moves of requests to another engine, by cause: died (or hung), drained (was asked to end), "
            "unreached (had died before the request came).",
            ["model", "cause"],
            registry=self._registry,
        )
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.")
        self._output = self._counter("output_tokens", "Tokens of answers.")
        self._first = self._histogram("time_to_first_token", "From a request's arrival to its first token.", FIRST)
        self._token = self._histogram(
            "inter_token_latency", "The mean time between two tokens of each answer, as they were sent.", TOKEN
        )
        self._pause = self._histogram("longest_pause", "The longest wait of each answer between two tokens.", PAUSE)
        self._queue = self._histogram("queue", "How long a request waited for its turn in a loaded model.", QUEUE)

    def count(self, ended: RequestOutcome, model: str) -> None:
        """Count one request. `model` is the model's own name, UNKNOWN, or empty for a request that has no model."""
        self._ended.labels(ended.route, model, ended.ending, ended.error).inc()
        for cause, number in ended.moves.items():
            self._moves.labels(model, cause).inc(number)
        if ended.prompt_tokens:
            self._prompt.labels(model).inc(ended.prompt_tokens)
        if ended.queue:
            self._queue.labels(model).observe(ended.queue / 1e9)
        if ended.output_tokens:
            self._output.labels(model).inc(ended.output_tokens)
            self._first.labels(model).observe(ended.first / 1e9)
        if ended.output_tokens > 1:
            self._token.labels(model).observe(ended.speaking / 1e9 / (ended.output_tokens - 1))
            self._pause.labels(model).observe(ended.pause / 1e9)

    def forget(self, model: str) -> None:
        """Remove the series of a model that was deleted; clients could otherwise make ever more of them."""
        for metric in (
            self._ended,
            self._moves,
            self._prompt,
            self._output,
            self._first,
            self._token,
            self._pause,
            self._queue,
        ):
            metric.remove_by_labels({"model": model})

    def text(self, states: Iterable[State], nodes: Sequence[ClusterNode] = ()) -> str:
        """Return the metrics in Prometheus' text format."""
        return (generate_latest(self._registry) + generate_latest(_States(states, nodes))).decode()

    def _counter(self, name: str, sentence: str) -> Counter:
        return Counter(f"vllm_wsgi_{name}", sentence, ["model"], registry=self._registry)

    def _histogram(self, name: str, sentence: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"vllm_wsgi_{name}_seconds", sentence, ["model"], registry=self._registry, buckets=buckets)


class _States:
    """A collector. A model that is made anew has two engines for a moment; the newer one counts."""

    def __init__(self, states: Iterable[State], nodes: Sequence[ClusterNode]) -> None:
        self._states = {state.model: state for state in states}
        self._nodes = nodes

    def collect(self) -> Iterator[Metric]:
        for kind, field, name, sentence in STATES:
            family = kind(f"vllm_wsgi_{name}", sentence, labels=["model"])
            for state in self._states.values():
                family.add_metric([state.model], getattr(state, field))
            yield family
        yield from self._of_workers()
        if self._nodes:
            yield from self._of_nodes()

    def _of_workers(self) -> list[GaugeMetricFamily]:
        families = [_gauge(*each, ["model", "replica", "node"]) for each in WORKERS]
        for state in self._states.values():
            for worker in state.workers:
                values = worker.state is EngineState.READY, worker.running, worker.waiting
                for family, value in zip(families, values, strict=True):
                    family.add_metric([state.model, str(worker.id), worker.node], value)
        return families

    def _of_nodes(self) -> list[GaugeMetricFamily]:
        families = [_gauge(*each, ["node"]) for each in NODES]
        for address in dict.fromkeys(node.address for node in self._nodes):
            # Nodes of a test may share the address of one machine.
            nodes = [node for node in self._nodes if node.address == address]
            families[0].add_metric([address], sum(node.gpus for node in nodes))
            families[1].add_metric([address], sum(node.free_gpus for node in nodes))
        return families


def _gauge(name: str, sentence: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"vllm_wsgi_{name}", sentence, labels=labels)
