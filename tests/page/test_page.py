"""The page in Chromium, against a scripted engine over the real routes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.keys import table
from tests.support.servers import ROOT, Server

AXE = ROOT / "tests/page/npm/node_modules/axe-core/axe.min.js"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_an_answer_streams_and_its_bytes_are_shown(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server.url)
    for transport, head in (("ndjson", "application/x-ndjson"), ("sse", "text/event-stream")):
        tab.page.check(f"[value={transport}]")
        tab.ask(f"!think:Hm !rate:50 one two {transport}")
        tab.sees(".turn", f"one two {transport}")
        tab.sees("#wire-head", head)
        tab.sees("#wire-log", '"done":true')


def test_a_hostile_answer_is_text(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server.url)
    tab.ask(HOSTILE)
    tab.sees(".turn:last-child", HOSTILE)
    assert tab.page.locator("#transcript img, #transcript script").count() == 0


def test_what_the_server_can_not_do_is_hidden(start_server: Callable[..., Server], open_tab: Callable[..., Any]):
    server = start_server({"VLLM_WSGI_RESUME_SECONDS": "0"})
    tab = open_tab(server.url)
    tab.sees("#link-text", "Connected")
    assert not tab.page.is_visible("#eventsource-choice")
    assert not tab.page.is_visible("#resumable-choice")
    tab.page.click("#copy-as")
    tab.sees("#snippet", "curl -N")
    assert tab.page.locator("#copy-tabs", has_text="EventSource").count() == 0


def test_a_killed_engine_is_shown_with_what_to_do_next(
    start_server: Callable[..., Server], open_tab: Callable[..., Any]
):
    server = start_server()
    tab = open_tab(server.url, "/ui#live")
    tab.sees(".state", "Ready")
    os.kill(server.engine_workers()[0], signal.SIGKILL)
    tab.sees(".advice", "killed by SIGKILL")
    tab.sees(".advice", "journalctl -k")
    tab.sees(".state", "Ready")


def test_a_web_worker_that_is_killed_breaks_the_answer_and_the_page_comes_back(
    start_server: Callable[..., Server], open_tab: Callable[..., Any]
):
    server = start_server()
    tab = open_tab(server.url)
    tab.sees("#link-text", "Connected")
    tab.ask("!rate:20 !repeat:400:tick")
    tab.sees(".turn", "tick tick")
    os.kill(server.web_workers()[0], signal.SIGKILL)
    tab.sees(".turn", "The connection broke")
    tab.sees("#link-text", "Connected")


def test_models_are_loaded_and_a_hostile_name_is_text(
    start_server: Callable[..., Server], open_tab: Callable[..., Any], tmp_path: Path
):
    models = tmp_path / "models.toml"
    models.write_text('[models.demo]\nsource = "models/demo"\npinned = true\n[models.idle]\nsource = "models/demo"\n')
    tab = open_tab(start_server({"VLLM_WSGI_MODELS": str(models)}).url, "/ui#models")
    row = tab.sees(".model", "idle")
    row.get_by_role("button", name="Load").click()
    tab.sees(".model", "Loaded.")
    row.get_by_role("button", name="Copy").click()
    tab.page.fill("#ask-destination", HOSTILE)
    tab.page.click("#ask-button")
    tab.sees("#ask-error", "invalid")


def test_a_server_with_keys_and_a_prefix_asks_for_one(
    start_server: Callable[..., Server], open_tab: Callable[..., Any], tmp_path: Path
):
    keys = tmp_path / "keys.toml"
    keys.write_text(table("all", "inference", "manage", "observe") + table("app", "inference"))
    server = Server(tmp_path, {"VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_PREFIX": "/llm"})
    server.url += "/llm"
    server.headers = {"Authorization": "Bearer all"}
    try:
        server.wait_until_ready()
        tab = open_tab(server.url)
        tab.page.fill("#key-input", "wrong")
        tab.page.keyboard.press("Enter")
        tab.sees("#key-reason", "does not know this key")
        tab.page.fill("#key-input", "all")
        tab.page.keyboard.press("Enter")
        tab.sees("#link-text", "Connected")
        tab.ask("behind a key")
        tab.sees(".turn:last-child", "behind a key")
        assert tab.page.evaluate("Object.values(localStorage).join()").count("all") == 0
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_no_rule_of_axe_is_violated(server: Server, open_tab: Callable[..., Any], scheme: str, size: tuple[int, int]):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make test-page, with npm")
    viewport = {"width": size[0], "height": size[1]}
    # axe is a script of the test's own, which the page's policy would refuse.
    tab = open_tab(server.url, color_scheme=scheme, viewport=viewport, bypass_csp=True)
    tab.page.add_script_tag(content=AXE.read_text())
    for view in ("playground", "live", "models"):
        tab.page.click(f"[data-view={view}]")
        tab.page.wait_for_selector(f"#{view}:not([hidden])")
        violations = tab.page.evaluate("axe.run(document)")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
        assert not tab.page.evaluate("document.documentElement.scrollWidth > innerWidth")
