"""What `/metrics` says of replicas and nodes. The counters are tested over HTTP (tests/http/test_metrics.py)."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.engine.host.metrics import Metrics, State
from service.protocol.live import EngineStatus
from service.protocol.model_info import ClusterNode, EngineState

READY = EngineStatus(state=EngineState.READY, running=2, waiting=1, node="10.0.0.2")
LOADING = EngineStatus(id=1, state=EngineState.LOADING)


def samples(*nodes: ClusterNode) -> dict[tuple[str, ...], float]:
    """By the name and the values of the labels, which are in alphabetical order: model, node, replica."""
    state = State("m:latest", True, 2, 1, 1, 0, 0, 1, (READY, LOADING))
    families = text_string_to_metric_families(Metrics().text([state], nodes))
    found = [sample for family in families for sample in family.samples]
    return {
        (sample.name.removeprefix("vllm_wsgi_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for sample in found
    }


def test_each_replica_has_its_node_and_its_requests():
    found = samples()
    assert found["replica_ready", "m:latest", "10.0.0.2", "0"] == 1
    assert found["replica_ready", "m:latest", "", "1"] == 0
    assert found["replica_requests_running", "m:latest", "10.0.0.2", "0"] == 2
    assert found["replica_requests_waiting", "m:latest", "10.0.0.2", "0"] == 1
    assert not any(name.startswith("node_") for name, *_ in found)


def test_the_gpus_of_each_node_are_counted():
    nodes = [ClusterNode(id=each, address="10.0.0.2", gpus=4, free_gpus=1) for each in ("a", "b")]
    found = samples(*nodes, ClusterNode(id="c", address="10.0.0.3", gpus=2))
    assert (found["node_gpus", "10.0.0.2"], found["node_free_gpus", "10.0.0.2"]) == (8, 2)
    assert (found["node_gpus", "10.0.0.3"], found["node_free_gpus", "10.0.0.3"]) == (2, 0)
