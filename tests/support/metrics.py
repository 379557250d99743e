"""The metrics of a server, read as Prometheus reads them."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.servers import Server

Sample = tuple[str, dict[str, str], float]


def samples(server: Server) -> list[Sample]:
    """Return name, labels and value of each. Fails where a family or a sample comes twice, which Prometheus refuses."""
    families = list(text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text))
    assert len({family.name for family in families}) == len(families)
    found = [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    assert len({(name, *sorted(labels.items())) for name, labels, _ in found}) == len(found)
    return found


def total(found: list[Sample], name: str) -> float:
    return sum(value for each, _, value in found if each == name)
