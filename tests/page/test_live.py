"""The live state, while engines, hosts and web workers are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.page.test_page import HOSTILE
from tests.support.answers import chat
from tests.support.servers import Server

DEMO = "#live-models article[aria-label=demo]"


def test_a_killed_engine_is_shown_with_what_to_do_next(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#live")
    tab.sees(f"{DEMO} .state", "Ready")
    asking = open_tab(library)
    asking.ask("!rate:20 !repeat:4000:tick")
    asking.sees(".turn.live", "tick tick")
    (killed,) = library.engine_workers()
    os.kill(killed, signal.SIGKILL)
    asking.answered("The answer broke off.")
    tab.sees(f"{DEMO} .advice", "killed by SIGKILL")
    tab.sees(f"{DEMO} .advice", "journalctl -k")
    tab.sees(".attention button", "demo")
    tab.page.select_option("#request-filter", "problem")
    tab.sees("#requests tr[data-ending=error]", "/api/chat")
    tab.sees(f"{DEMO} .state", "Ready")
    tab.sees_no(f"{DEMO} .advice")
    asking.page.get_by_role("button", name="Ask again").click()
    asking.sees(".turn.live", "tick tick")
    assert killed not in library.engine_workers()
    asking.page.click("#stop")


def test_a_killed_engine_host_is_shown_and_the_cards_stay(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#live")
    tab.sees(f"{DEMO} .state", "Ready")
    # Stopped, it does not answer and is not started again yet.
    host = library.engine_hosts()[0]
    os.kill(host, signal.SIGSTOP)
    try:
        tab.sees(".host-notice", "The engine host does not answer")
        tab.sees(".host-notice", "systemctl start")
        tab.sees(f"#live-models.stale {DEMO.removeprefix('#live-models ')} .state", "Not known")
        tab.page.click("[data-view=models]")
        tab.sees(".model .state", "Not known")
    finally:
        os.kill(host, signal.SIGKILL)
    tab.page.click("[data-view=live]")
    tab.sees_no(".host-notice")
    tab.sees(f"{DEMO} .state", "Ready")
    assert host not in library.engine_hosts()


def test_a_web_worker_that_is_killed_breaks_the_answer_and_the_page_comes_back(
    library: Server, open_tab: Callable[..., Any]
):
    tab = open_tab(library)
    tab.sees("#link-text", "Connected")
    tab.ask("!rate:20 !repeat:4000:tick")
    tab.sees(".turn.live", "tick tick")
    killed = library.web_workers()
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    tab.answered("The connection broke")
    tab.sees("#link-text", "Connected")
    tab.page.get_by_role("button", name="Ask again").click()
    tab.sees(".turn.live", "tick tick")
    assert not set(killed) & set(library.web_workers())
    tab.page.click("#stop")


def test_what_can_not_be_loaded_says_why_and_what_to_do(library: Server, open_tab: Callable[..., Any]):
    httpx.post(f"{library.url}/api/generate", json={"model": "broken"}, timeout=60)
    tab = open_tab(library, "/ui#live")
    card = tab.sees("#live-models article", "CUDA out of memory")
    assert "nvidia-smi" in card.inner_text()
    assert "can't be loaded: the model can't be loaded" not in card.inner_text()


def test_the_charts_do_not_need_colour(library: Server, open_tab: Callable[..., Any]):
    httpx.post(f"{library.url}/api/chat", json=chat("a b c", stream=False), timeout=60)
    tab = open_tab(library, "/ui#live")
    tab.sees(f"{DEMO} .legend", "Waiting")
    dashes = [
        tab.page.eval_on_selector(f"{DEMO} .line{kind}", "line => getComputedStyle(line).strokeDasharray")
        for kind in (".second", ":not(.second)")
    ]
    assert dashes[0] != dashes[1] == "none"
    for chart in ("Running now", "Tokens per second now", "Time to first token now"):
        assert tab.page.locator(f'{DEMO} svg[aria-label*="{chart}"]').count() == 1


def test_each_replica_is_shown_with_its_node(library: Server, open_tab: Callable[..., Any]):
    """The nodes are made up: no cluster runs here."""
    places = {"demo": [{"id": 0, "state": "ready", "node": "10.0.0.2"}], "apart": [{"id": n} for n in (0, 1)]}
    models = [{"name": name, "state": "ready", "replicas": replicas} for name, replicas in places.items()]
    snapshot = {"time": time.time(), "version": "1", "host": {"state": "ready"}, "models": models}
    events = f"retry: 3600000\n\nevent: snapshot\ndata: {json.dumps(snapshot)}\n\n"

    def answer(page: Any) -> None:
        page.route("**/api/events*", lambda route: route.fulfill(content_type="text/event-stream", body=events))

    tab = open_tab(library, "/ui#live", before=answer)
    tab.sees(f"{DEMO} th", "Node")
    tab.sees(f"{DEMO} td", "10.0.0.2")
    apart = tab.sees("#live-models article[aria-label=apart]", "Replica")
    assert (apart.locator("tbody tr").count(), apart.locator(".place").filter(visible=True).count()) == (2, 0)


def test_a_hostile_name_in_a_request_is_text(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#live")
    tab.page.select_option("#request-filter", "")
    tab.sees("#requests tr")
    agent = httpx.post(f"{library.url}/api/chat", json={**chat("a"), "model": HOSTILE}, timeout=60)
    assert agent.status_code in (400, 404)
    tab.sees("#requests tr", agent.headers["X-Request-Id"])
    assert tab.page.locator("#live img, #live script").count() == 0
