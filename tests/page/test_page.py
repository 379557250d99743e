"""The page in Chromium, against a scripted engine over the real routes: what holds for all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.servers import ROOT, Server

AXE = ROOT / "tests/page/npm/node_modules/axe-core/axe.min.js"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
MOST_BYTES = 100_000


def test_an_answer_streams_and_its_bytes_are_shown(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    for transport, head in (("ndjson", "application/x-ndjson"), ("sse", "text/event-stream")):
        tab.page.check(f"[value={transport}]")
        tab.ask(f"!think:Hm !rate:50 one two {transport}")
        tab.answered(f"one two {transport}")
        # Thinking is there, and folded.
        tab.sees(".turn:last-child .thought summary", "Thought for")
        assert not tab.page.is_visible(".turn:last-child .thinking")
        tab.sees("#wire-head", head)
        tab.sees("#wire-log", '"done":true')
        tab.sees("#wire-log .gap", "s")
        for figure in ("first", "rate", "tokens", "chunks", "bytes"):
            assert tab.page.inner_text(f"#figure-{figure}") != "–"


def test_a_hostile_answer_is_text(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    for form in ("", "json"):
        tab.page.select_option("#format", form)
        tab.ask(f'["{HOSTILE}"]' if form else f"!think:{HOSTILE.split(' ')[0]} {HOSTILE}")
        tab.answered(HOSTILE)
    assert tab.page.locator("#playground img, #playground script").count() == 0
    # Nor do they execute when they come back from where the browser kept them.
    tab.page.reload()
    tab.answered(HOSTILE)
    assert tab.page.locator("#playground img, #playground script").count() == 0


def test_what_the_server_can_not_do_is_hidden(start_server: Callable[..., Server], open_tab: Callable[..., Any]):
    server = start_server({"VLLM_WSGI_RESUME_SECONDS": "0"})
    tab = open_tab(server)
    tab.sees("#link-text", "Connected")
    assert not tab.page.is_visible("#eventsource-choice")
    assert not tab.page.is_visible("#resumable-choice")
    tab.page.click("#copy-as")
    tab.sees("#snippet", "curl -N")
    assert tab.page.locator("#copy-tabs", has_text="EventSource").count() == 0


def test_all_of_the_page_is_small_and_works_over_a_slow_connection(server: Server, open_tab: Callable[..., Any]):
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def slow_down(page: Any) -> None:
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", lambda sent: names.update({sent["requestId"]: sent["request"]["url"]}))
        session.on("Network.loadingFinished", lambda end: sizes.update({end["requestId"]: end["encodedDataLength"]}))
        session.send("Network.enable")
        # Mobile data at the edge of a cell: 400 ms there and back, half a megabit per second.
        speed = {"latency": 400, "downloadThroughput": 64_000, "uploadThroughput": 32_000}
        session.send("Network.emulateNetworkConditions", {"offline": False, **speed})

    tab = open_tab(server, before=slow_down)
    # What is typed before the page is complete stays, and nothing is sent before there is a model to ask.
    tab.page.fill("#message", "over a thin wire")
    tab.sees("#link-text", "Connected")
    tab.ask(tab.page.input_value("#message"))
    tab.answered("over a thin wire")
    page = {names[each]: size for each, size in sizes.items() if "/ui" in names[each]}
    # All modules, also those that come after the first paint.
    assert len(page) > 20
    assert sum(page.values()) < MOST_BYTES, page


def test_it_works_by_keyboard(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    keyboard = tab.page.keyboard
    keyboard.press("Tab")
    tab.sees(".skip:focus")
    keyboard.press("Enter")
    tab.sees("#main:focus")
    tab.page.focus("#message")
    tab.sees("#send:enabled")
    keyboard.type("!rate:20 !repeat:4000:tick")
    keyboard.press("Enter")
    tab.sees(".turn.live", "tick tick")
    (asked,) = [json.loads(body)["messages"] for url, body in tab.bodies if url.endswith("/api/chat")]
    assert asked[-1]["content"] == "!rate:20 !repeat:4000:tick"
    keyboard.press("Escape")
    tab.sees(".turn-foot", "Stopped.")
    server.wait_until_idle()
    tab.page.focus("#copy-as")
    keyboard.press("Enter")
    tab.sees("#copy-tabs [aria-selected=true]", "curl")
    tab.page.focus("#copy-tabs [aria-selected=true]")
    keyboard.press("ArrowRight")
    tab.sees("#copy-tabs [aria-selected=true]:focus", "ollama")
    keyboard.press("Escape")
    tab.sees_no("#copy-dialog")
    tab.sees("#copy-as:focus")


def test_the_events_are_only_read(server: Server):
    assert httpx.post(f"{server.url}/api/events").status_code == 405


# What is narrow has the colours of what is wide.
@pytest.mark.parametrize(("scheme", "size"), [("light", (1440, 900)), ("dark", (1440, 900)), ("dark", (360, 740))])
def test_no_rule_of_axe_is_violated(library: Server, open_tab: Callable[..., Any], scheme: str, size: tuple[int, int]):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make test-page, with npm")
    viewport = {"width": size[0], "height": size[1]}
    # axe is a script of the test's own, which the page's policy would refuse.
    tab = open_tab(library, color_scheme=scheme, viewport=viewport, bypass_csp=True)
    tab.page.add_script_tag(content=AXE.read_text())

    def check() -> None:
        violations = tab.page.evaluate("axe.run(document)")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
        assert not tab.page.evaluate("document.documentElement.scrollWidth > innerWidth")

    tab.ask("!think:Hm some words")
    tab.answered("some words")
    check()
    tab.page.click("#copy-as")
    tab.sees("#snippet", "curl")
    check()
    tab.page.keyboard.press("Escape")
    for view, part in (("live", ".card-head"), ("models", ".model")):
        tab.page.click(f"[data-view={view}]")
        tab.sees(f"#{view} {part}")
        check()
