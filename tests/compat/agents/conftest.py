"""A scripted engine for agents, which play their part of a conversation as they ship."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import CONTEXT, NODE_MODULES, ClaudeCode, ClosedProxy, Codex, Continue
from tests.support.servers import SCRIPTED, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(700))


@pytest.fixture(scope="session")
def agents_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("node") is None:
        pytest.skip("there is no node on this machine")
    if not NODE_MODULES.exists():
        pytest.skip("the agents are not installed: `make test-agents` does it, where there is npm")
    arguments = {"VLLM_WSGI_ENGINE_ARGS": json.dumps({"max_model_len": CONTEXT})}
    server = Server.start(tmp_path_factory.mktemp("agents"), SCRIPTED | arguments)
    yield server
    server.stop()
    assert "Traceback" not in server.output


@pytest.fixture
def proxy() -> Iterator[ClosedProxy]:
    """The only way out of the machine that an agent has; no test of an agent may use it."""
    proxy = ClosedProxy()
    yield proxy
    proxy.close()
    assert proxy.asked == []


@pytest.fixture
def codex(agents_server: Server, proxy: ClosedProxy, tmp_path: Path) -> Codex:
    return Codex(agents_server.url, tmp_path, proxy.environment())


@pytest.fixture
def continue_cli(agents_server: Server, proxy: ClosedProxy, tmp_path: Path) -> Continue:
    return Continue(agents_server.url, tmp_path, proxy.environment())


@pytest.fixture
def claude_code(agents_server: Server, proxy: ClosedProxy, tmp_path: Path) -> ClaudeCode:
    return ClaudeCode(agents_server.url, tmp_path, proxy.environment())
