"""Open WebUI in front of a scripted engine, and a browser. Without one of them the tests are skipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import ClosedProxy
from tests.support.browser import chromium
from tests.support.open_webui import PROGRAM, START_SECONDS, OpenWebUI, WebUIChat
from tests.support.servers import SCRIPTED, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(700))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if not PROGRAM.exists():
        pytest.skip("Open WebUI is not installed: make test-open-webui")
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="session")
def scripted_server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = {"VLLM_WSGI_ENGINE_ARGS": json.dumps({"max_model_len": 32_768})}
    server = Server.start(tmp_path_factory.mktemp("server"), SCRIPTED | arguments)
    yield server
    server.stop()
    assert "Traceback" not in server.output


@pytest.fixture(scope="session")
def open_webui(scripted_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWebUI]:
    """The program, whose only way out of the machine is a proxy that lets nothing through."""
    proxy = ClosedProxy()
    program = OpenWebUI(scripted_server.url, tmp_path_factory.mktemp("open-webui"), proxy.environment())
    program.wait_until_serving(START_SECONDS)
    yield program
    program.stop()
    proxy.close()


@pytest.fixture
def open_chat(browser: Any, open_webui: OpenWebUI) -> Iterator[Callable[..., WebUIChat]]:
    """Opens chats with the default model, or with a named one."""
    chats: list[WebUIChat] = []

    def open_chat(model: str = "") -> WebUIChat:
        chats.append(WebUIChat(browser, open_webui, model))
        return chats[-1]

    yield open_chat
    for chat in chats:
        chat.close()
