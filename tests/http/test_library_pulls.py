"""Models pulled over real HTTP, from a hub on loopback."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.answers import NDJSON, SSE, parse
from tests.support.hub import LoopbackHub
from tests.support.library import DEMO, delete, names, said
from tests.support.servers import Server
from tests.support.waiting import until


@pytest.mark.parametrize("media_type", [NDJSON, SSE])
def test_a_pull_tells_its_progress_and_makes_a_model(http: httpx.Client, media_type: str):
    answer = http.post("/api/pull", json={"model": "hf.co/org/demo"}, headers={"Accept": media_type})
    first, *layers, writing, last = parse(answer.content, media_type)
    assert (first, writing, last) == (
        {"status": "pulling manifest"},
        {"status": "writing manifest"},
        {"status": "success"},
    )
    weights = [layer for layer in layers if layer["total"] == (DEMO / "model.safetensors").stat().st_size]
    assert weights[-1]["completed"] == weights[-1]["total"]
    assert weights[-1]["status"] == f"pulling {weights[-1]['digest'].removeprefix('sha256:')[:12]}"
    shown = http.post("/api/show", json={"model": "hf.co/org/demo"}).json()
    assert (shown["details"]["family"], said(http, "hf.co/org/demo", "a")) == ("qwen2", "a")


def test_what_was_pulled_is_deleted_with_its_last_name(http: httpx.Client, library: Server):
    def weights() -> list[Path]:
        return list((library.directory / "hf").rglob("model.safetensors"))

    http.post("/api/pull", json={"model": "org/demo", "stream": False})
    http.post("/api/copy", json={"source": "org/demo", "destination": "other"})
    delete(http, "org/demo")
    assert len(weights()) == 1
    delete(http, "other")
    assert weights() == []


def test_a_declared_model_that_is_here_needs_no_pull(http: httpx.Client):
    assert http.post("/api/pull", json={"model": "demo", "stream": False}).json() == {"status": "success"}


@pytest.mark.parametrize("name", ["llama3", "hf.co/org/nothing"])
def test_a_pull_of_what_nobody_has_says_so(http: httpx.Client, name: str):
    records = parse(http.post("/api/pull", json={"model": name}).content, NDJSON)
    assert records[0] == {"status": "pulling manifest"}
    assert "error" in records[-1]
    assert http.post("/api/pull", json={"model": name, "stream": False}).status_code == 404


def test_a_pull_ends_with_its_client(http: httpx.Client, library: Server, hub: LoopbackHub):
    hub.hold_at = 1 << 20
    try:
        with http.stream("POST", "/api/pull", json={"model": "org/demo"}) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines)) == {"status": "pulling manifest"}
            until(lambda: library.running("service.engine.hub.download"), 120, "the download runs")
        until(lambda: not library.running("service.engine.hub.download"), 120, "the download has ended")
    finally:
        hub.release()


def test_a_host_that_is_killed_while_it_pulls_leaves_no_half_model(
    http: httpx.Client, library: Server, hub: LoopbackHub, tmp_path: Path
):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(os.urandom(3 << 20))
    hub.commit("org/large", tmp_path)
    hub.hold_at = 1 << 20
    with http.stream("POST", "/api/pull", json={"model": "org/large"}) as answer:
        lines = answer.iter_lines()
        until(lambda: hub.begun, 120, "the download has begun")
        os.kill(library.engine_hosts()[0], signal.SIGKILL)
        assert "error" in json.loads(list(lines)[-1])
    until(lambda: not library.running("service.engine.hub.download"), 120, "the download has ended with its host")
    until(lambda: library.engine_hosts() and library.serves(), 120, "another host serves")
    assert "org/large:latest" not in names(http)
    hub.release()
    assert http.post("/api/pull", json={"model": "org/large", "stream": False}).json() == {"status": "success"}
    assert "org/large:latest" in names(http)
