"""vLLM's own metrics in `/metrics`, beside ours, on the real engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.asking import Asker
from tests.support.metrics import samples, total
from tests.support.servers import ROOT, Server
from tests.support.waiting import VLLM_SECONDS, until

pytestmark = pytest.mark.engine

# A metric and what it is selected by.
_SELECTOR = re.compile(r"\b(vllm(?:_wsgi_|:)[a-z0-9_]+)(?:\{([^}]*)\})?")


def test_our_tokens_are_vllms(demo: Asker, engine_server: Server):
    pairs = [
        (f"vllm_wsgi_{ours}_tokens_total", f"vllm:{theirs}_tokens_total")
        for ours, theirs in (("prompt", "prompt"), ("output", "generation"))
    ]
    before = samples(engine_server)
    for tokens in (5, 9):
        demo.ndjson("/api/generate", prompt="What is vllm-wsgi?", options={"num_predict": tokens})
    until(
        lambda: total(samples(engine_server), pairs[1][0]) == total(before, pairs[1][0]) + 14, 120, "they are counted"
    )
    after = samples(engine_server)
    for ours, theirs in pairs:
        assert total(after, ours) - total(before, ours) == total(after, theirs) - total(before, theirs) > 0


def test_vllms_metrics_are_there_under_our_names_of_the_models(demo: Asker, engine_server: Server):
    demo.ndjson("/api/generate", prompt="What is vllm-wsgi?", options={"num_predict": 5})
    vllm = [(name, labels) for name, labels, _ in samples(engine_server) if name.startswith("vllm:")]
    assert {labels["model_name"] for _, labels in vllm} == {"demo:latest"}
    assert "vllm:generation_tokens_total" in {name for name, _ in vllm}


def labels_shown(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a query and the labels that it takes each to have."""
    summed = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
    for name, selected in _SELECTOR.findall(query):
        yield name, summed | set(re.findall(r"(\w+)=", selected))


def test_every_metric_on_the_dashboard_is_told_with_the_labels_that_it_is_shown_by(demo: Asker, engine_server: Server):
    demo.ndjson("/api/generate", prompt="What is vllm-wsgi?", options={"num_predict": 5})
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = [each for query in queries for each in labels_shown(query)]
    assert len({name for name, _ in shown}) > 15
    told = {name: set(labels) for name, labels, _ in samples(engine_server)}
    assert [(name, labels) for name, labels in shown if name not in told or labels - told[name]] == []


def test_two_engines_do_not_mix(two_models: Server):
    for model in ("plain", "loud"):
        loaded = httpx.post(f"{two_models.url}/api/generate", json={"model": model}, timeout=VLLM_SECONDS)
        assert loaded.status_code == 200
    running = [labels["model_name"] for name, labels, _ in samples(two_models) if name == "vllm:num_requests_running"]
    assert sorted(running) == ["loud:latest", "plain:latest"]
