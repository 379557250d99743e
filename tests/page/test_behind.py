"""The page of a server with keys, below a prefix and behind nginx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.proxies import PREFIX, Proxy, certify, missing, start_nginx
from tests.support.keys import table
from tests.support.servers import SCRIPTED, Server


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys and a prefix, which may be asked through a proxy."""
    directory = tmp_path_factory.mktemp("behind")
    keys = directory / "keys.toml"
    keys.write_text(table("all", "inference", "manage", "observe") + table("app", "inference"))
    env = {"VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_PREFIX": PREFIX, "VLLM_WSGI_PROXY_HOPS": "1"}
    server = Server(directory, {**SCRIPTED, **env, "VLLM_WSGI_HOSTS": "llm.example.com"})
    server.url += PREFIX
    server.headers = {"Authorization": "Bearer all"}
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def nginx(behind: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if lacking := missing("nginx"):
        pytest.skip(f"{lacking} is not installed")
    directory: Path = tmp_path_factory.mktemp("nginx")
    certify(directory)
    proxy = start_nginx(directory, behind.port, patience=60)
    proxy.headers = behind.headers
    proxy.wait_until_ready()
    yield proxy
    proxy.stop()


def give_key(tab: Any, key: str) -> None:
    tab.page.fill("#key-input", key)
    tab.page.keyboard.press("Enter")


def test_it_asks_for_a_key_and_keeps_it_for_the_tab_alone(behind: Server, open_tab: Callable[..., Any]):
    tab = open_tab(behind)
    tab.sees("#key-dialog")
    give_key(tab, "wrong")
    tab.sees("#key-reason", "does not know this key")
    give_key(tab, "all")
    tab.sees("#link-text", "Connected")
    tab.ask("behind a key")
    tab.answered("behind a key")
    assert "all" not in tab.page.evaluate("Object.values(localStorage).join()")
    tab.page.click("#copy-as")
    tab.sees("#snippet", "Bearer $VLLM_WSGI_KEY")


def test_a_key_without_the_scope_for_it_is_answered_without_the_live_state(
    behind: Server, open_tab: Callable[..., Any]
):
    tab = open_tab(behind)
    tab.sees("#key-dialog")
    give_key(tab, "app")
    tab.ask("only inference")
    tab.answered("only inference")
    tab.page.click("[data-view=live]")
    tab.sees("#live-summary", "observe")
    tab.page.click("[data-view=models]")
    tab.sees(".model .state", "Ready").page.get_by_role("button", name="Unload demo").click()
    tab.sees(".model .bad", "manage")
    assert behind.status()["state"] == "ready"


def test_it_works_behind_nginx(behind: Server, nginx: Proxy, open_tab: Callable[..., Any]):
    tab = open_tab(behind, url=nginx.url, ignore_https_errors=True)
    tab.sees("#key-dialog")
    give_key(tab, "all")
    tab.sees("#link-text", "Connected")
    tab.ask("!rate:20 !repeat:4000:tick")
    # Each piece comes as it is made: nothing waits for the end.
    tab.sees(".turn.live", "tick tick")
    tab.page.click("#stop")
    tab.sees(".turn-foot", "Stopped.")
    behind.wait_until_idle()
    assert 2 <= tab.page.inner_text(".turn:has(.turn-foot)").count("tick") < 4000
    tab.page.click("#copy-as")
    tab.sees("#snippet", f"{nginx.url}/api/chat")
    tab.page.keyboard.press("Escape")
    tab.page.click("[data-view=live]")
    tab.sees(".card-head", "Ready")
