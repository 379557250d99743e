"""`/metrics`: sums that are right whichever web worker is asked. Scripted engine, two web workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from service.config import Settings
from service.telemetry.metrics import joined
from service.web.blueprint import create_blueprint
from tests.support.answers import chat, generate
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"WEB_CONCURRENCY": "2", "VLLM_WSGI_ENGINE_ARGS": '{"max_num_seqs": 1}'}
    server = Server.start(tmp_path_factory.mktemp("busy"), SCRIPTED | env)
    yield server
    server.stop()


def parse(text: str) -> Samples:
    """By name and labels; fails where a family or a sample comes twice."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def scrape(server: Server) -> Samples:
    """On a connection of its own, so that the web workers take turns as it comes."""
    answer = httpx.get(f"{server.url}/metrics")
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    return parse(answer.text)


def value(server: Server, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    wanted = labels.items()
    samples = scrape(server).items()
    return sum(number for (found, has), number in samples if found == f"vllm_wsgi_{name}" and wanted <= set(has))


def post(server: Server, script: str, path: str = "/api/chat", **fields: object) -> httpx.Response:
    body = chat(script, **fields) if path == "/api/chat" else generate(script, **fields)
    return httpx.post(f"{server.url}{path}", json=body, timeout=120)


def grows(server: Server, by: float, name: str, before: float, **labels: str) -> None:
    until(lambda: value(server, name, **labels) == before + by, 120, f"{name} {labels} grows by {by:g}")


def test_requests_of_all_web_workers_are_counted_once(busy: Server):
    names = {"requests_total": 12, "output_tokens_total": 36, "prompt_tokens_total": 36}
    before = {name: value(busy, name, model="demo:latest") for name in names}
    for _ in range(12):
        assert post(busy, "one two three").status_code == 200
    for name, by in names.items():
        grows(busy, by, name, before[name], model="demo:latest")
    answers = [parse(httpx.get(f"{busy.url}/metrics").text) for _ in range(6)]
    assert answers == answers[:1] * 6


def test_each_ending_is_told_by_its_route_and_kind(busy: Server):
    failed = post(busy, "a !fail:oh"), post(busy, "a !fail:oh", "/api/generate", stream=False)
    refused = httpx.post(f"{busy.url}/v1/completions", content=b"{")
    assert [answer.status_code for answer in (*failed, refused)] == [200, 500, 400]
    with httpx.stream("POST", f"{busy.url}/api/chat", json=chat("a !sleep:30")) as answer:
        next(answer.iter_raw())
    for route, end, error in (
        ("/api/chat", "error", "EngineFailure"),
        ("/api/generate", "error", "EngineFailure"),
        ("/v1/completions", "refused", "BadRequest"),
        ("/api/chat", "client_gone", ""),
    ):
        grows(busy, 1, "requests_total", 0, route=route, ending=end, error=error)


def test_names_that_clients_make_up_are_one_label(busy: Server):
    for name in ("nobody", "nobody-else", 'x"} 1\nforged 1'):
        httpx.post(f"{busy.url}/api/chat", json=chat("a", model=name))
    httpx.get(f"{busy.url}/api/nothing-{os.getpid()}")
    # What is no name at all is refused before it is one.
    grows(busy, 2, "requests_total", 0, model="unknown", error="ModelNotFound")
    text = httpx.get(f"{busy.url}/metrics").text
    assert not any(word in text for word in ("nobody", "forged", f"nothing-{os.getpid()}"))


def test_a_model_that_is_deleted_takes_its_series_along(busy: Server):
    httpx.post(f"{busy.url}/api/copy", json={"source": "demo", "destination": "brief"})
    post(busy, "a", model="brief")
    grows(busy, 1, "output_tokens_total", 0, model="brief:latest")
    httpx.request("DELETE", f"{busy.url}/api/delete", json={"model": "brief"})
    assert "brief" not in httpx.get(f"{busy.url}/metrics").text


def test_other_names_of_a_model_are_not_other_models(busy: Server):
    before = value(busy, "output_tokens_total", model="demo:latest")
    assert post(busy, "a", model="DEMO:latest").status_code == 200
    grows(busy, 1, "output_tokens_total", before, model="demo:latest")
    assert "DEMO" not in httpx.get(f"{busy.url}/metrics").text


def test_what_waits_for_its_turn_is_told(busy: Server):
    count, total = value(busy, "queue_seconds_count"), value(busy, "queue_seconds_sum")
    with ThreadPoolExecutor(2) as pool:
        posts = [pool.submit(post, busy, "!sleep:4 a") for _ in range(2)]
        until(lambda: value(busy, "requests_waiting", model="demo:latest") == 1, 120, "one waits")
        assert value(busy, "requests_running", model="demo:latest") == 1
        assert [each.result().status_code for each in posts] == [200, 200]
    grows(busy, 2, "queue_seconds_count", count)
    assert value(busy, "queue_seconds_sum") > total + 0.5


def test_health_checks_and_scrapes_are_not_counted(busy: Server):
    before = value(busy, "requests_total")
    for path in ("/livez", "/readyz", "/metrics"):
        httpx.get(f"{busy.url}{path}")
    post(busy, "a")
    grows(busy, 1, "requests_total", before)


def test_a_killed_web_worker_takes_no_counts_along_and_the_engine_names_what_it_left(busy: Server):
    before = value(busy, "requests_total", route="/api/chat")
    assert before > 0
    headers = {"X-Request-Id": "left-behind"}
    with httpx.stream("POST", f"{busy.url}/api/chat", json=chat("a !sleep:30"), headers=headers) as answer:
        # Without a name it is closed at once, and the client is gone.
        chunks = answer.iter_raw()
        next(chunks)
        for worker in busy.web_workers():
            os.kill(worker, signal.SIGKILL)
    until(busy.serves, 120, "new web workers serve")
    assert value(busy, "requests_total", route="/api/chat") == before
    until(lambda: "request left-behind is cancelled: its web worker is gone" in busy.output, 120, "the engine tells")


def test_loads_unloads_and_restarts_are_told(busy: Server):
    loads, restarts = value(busy, "model_loads_total"), value(busy, "engine_restarts_total")
    post(busy, "!crash")
    assert value(busy, "model_loaded", model="demo:latest") == 0
    busy.wait_until_ready()
    assert (value(busy, "model_loads_total"), value(busy, "engine_restarts_total")) == (loads + 1, restarts + 1)
    httpx.post(f"{busy.url}/api/generate", json={"model": "demo", "keep_alive": 0})
    grows(busy, 1, "model_unloads_total", 0)


# --- without a server ------------------------------------------------------------------------------------


def test_without_an_engine_host_that_is_told(tmp_path: Path):
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(create_blueprint(Settings(engine_socket=str(tmp_path / "engine.sock"))))
    answer = app.test_client().get("/metrics")
    assert (answer.status_code, parse(answer.text)) == (200, {("vllm_wsgi_engine_host_up", frozenset()): 0.0})


def test_a_family_of_several_engines_stands_there_once():
    text = '# HELP {0} A.\n# TYPE {0} gauge\n{0}{{model_name="{1}"}} 1.0\n'
    both = joined([text.format("a", "one") + text.format("b", "one"), text.format("b", "two"), ""])
    assert {(name, *labels) for name, labels in parse(both)} == {
        ("a", ("model_name", "one")), ("b", ("model_name", "one")), ("b", ("model_name", "two")),
    }  # fmt: skip
