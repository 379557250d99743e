"""vLLM's own metrics in `/metrics`, beside ours, on the real engine."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.asking import Asker
from tests.servers import ROOT, Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

_NAME = re.compile(r"\b(vllm(?:_wsgi_|:)[a-z0-9_]+)")


def samples(server: Server) -> list[tuple[str, dict[str, str], float]]:
    """Fails where a family or a sample comes twice, which Prometheus refuses."""
    families = list(text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text))
    assert len({family.name for family in families}) == len(families)
    found = [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    assert len({(name, *sorted(labels.items())) for name, labels, _ in found}) == len(found)
    return found


def test_vllms_metrics_are_there_under_our_names_of_the_models(demo: Asker, engine_server: Server):
    demo.ndjson("/api/generate", prompt="What is vllm-wsgi?", options={"num_predict": 5})
    vllm = [(name, labels) for name, labels, _ in samples(engine_server) if name.startswith("vllm:")]
    assert {labels["model_name"] for _, labels in vllm} == {"demo:latest"}
    assert "vllm:generation_tokens_total" in {name for name, _ in vllm}


def test_every_metric_on_the_dashboard_is_told(demo: Asker, engine_server: Server):
    demo.ndjson("/api/generate", prompt="What is vllm-wsgi?", options={"num_predict": 5})
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for query in queries for name in _NAME.findall(query)}
    assert len(shown) > 15
    assert shown - {name for name, _, _ in samples(engine_server)} == set()


def test_two_engines_do_not_mix(two_models: Server):
    for model in ("plain", "loud"):
        assert httpx.post(f"{two_models.url}/api/generate", json={"model": model}, timeout=200).status_code == 200
    running = [labels["model_name"] for name, labels, _ in samples(two_models) if name == "vllm:num_requests_running"]
    assert sorted(running) == ["loud:latest", "plain:latest"]
