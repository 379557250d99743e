"""Fixtures that several modules of tests over HTTP share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.hub import LoopbackHub
from tests.support.library import DEMO, delete, names
from tests.support.pulls import NAME, use_cache
from tests.support.servers import ROOT, SCRIPTED, Server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    hub.commit("org/demo", DEMO)
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, hub: LoopbackHub) -> Iterator[Server]:
    """A server whose models clients change."""
    directory = tmp_path_factory.mktemp("library")
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(directory / "hf"), "NO_PROXY": "*", "VLLM_WSGI_MAX_BODY": "100000"}
    server = Server.start(directory, {**SCRIPTED, **env})
    yield server
    server.stop()


@pytest.fixture
def http(library: Server) -> Iterator[httpx.Client]:
    """Every model that a test makes is gone after it."""
    with httpx.Client(base_url=library.url, timeout=120) as client:
        yield client
        for name in names(client) - {"demo:latest"}:
            assert delete(client, name).status_code == 200


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """huggingface_hub's cache, which is empty."""
    return use_cache(tmp_path / "hub", monkeypatch)


@pytest.fixture
def origin(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub for pulls in this process, with the demo model in it."""
    origin = LoopbackHub()
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"HF_ENDPOINT": origin.url, "HF_HOME": str(tmp_path), "NO_PROXY": "*"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(ROOT)
    origin.commit(NAME, DEMO)
    yield origin
    origin.stop()
