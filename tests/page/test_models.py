"""The models: loading, pulling, creating, copying and deleting them, with errors where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.page.test_page import HOSTILE
from tests.support.hub import LoopbackHub
from tests.support.servers import ROOT, Server
from tests.support.waiting import until

WEIGHTS = (ROOT / "models/demo/model.safetensors").stat().st_size


def row(tab: Any, name: str, text: str = "") -> Any:
    """Wait until the model's row holds the text; the row."""
    selector = f".model:has(h2:text-is('{name}'))"
    tab.sees(selector, text)
    return tab.page.locator(selector)


def pull(tab: Any, name: str) -> None:
    tab.page.fill("#pull-name", name)
    tab.sees("#pull:enabled")
    tab.page.press("#pull-name", "Enter")


def names(server: Server, path: str) -> list[str]:
    """Return the names that a route lists: the loaded models (/api/ps) or all (/api/tags)."""
    return [each["name"] for each in httpx.get(f"{server.url}{path}").json()["models"]]


def test_a_model_is_loaded_and_unloaded(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    row(tab, "idle", "Not loaded").get_by_role("button", name="Load idle").click()
    row(tab, "idle", "Loaded.")
    assert "idle:latest" in names(library, "/api/ps")
    row(tab, "idle", "Ready").get_by_role("button", name="Unload idle").click()
    row(tab, "idle", "Unloaded.")
    row(tab, "idle", "Not loaded")
    assert "idle:latest" not in names(library, "/api/ps")
    row(tab, "broken").get_by_role("button", name="Load broken").click()
    row(tab, "broken", "CUDA out of memory")


def test_a_pull_shows_its_progress_and_makes_a_model(library: Server, hub: LoopbackHub, open_tab: Callable[..., Any]):
    pytest.importorskip("huggingface_hub")
    hub.hold_at = WEIGHTS // 2
    tab = open_tab(library, "/ui#models")
    try:
        pull(tab, "hf.co/org/demo")
        tab.sees("#pulls .hint", " MB of 3.")
        # The hub holds the weights in the middle: the bar stands between its ends.
        bar = tab.sees("#pulls progress[max]")
        until(lambda: 0 < bar.evaluate("bar => bar.position") < 1, 60, "the bar is in the middle")
    finally:
        hub.release()
    tab.sees("#pulls", "Pulled.")
    assert any(name.startswith("hf.co/org/demo") for name in names(library, "/api/tags"))
    row(tab, "hf.co/org/demo").get_by_role("button", name="Delete").click()
    tab.page.click("#ask-button")
    tab.sees_no(".model:has(h2:text-is('hf.co/org/demo'))")
    assert not any(name.startswith("hf.co/org/demo") for name in names(library, "/api/tags"))


def test_a_pull_that_fails_says_so_where_it_was_asked_for(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    pull(tab, "llama3")
    tab.sees("#pulls .progress:has-text('llama3') [role=alert]", "name a repository on Hugging Face")
    assert "llama3:latest" not in names(library, "/api/tags")


def test_a_model_is_created_copied_and_after_a_question_deleted(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    row(tab, "demo").get_by_role("button", name="Create from demo").click()
    tab.page.fill("#ask-model", "terse")
    tab.page.fill("#ask-system", "Be terse.")
    tab.page.fill("#ask-parameters", "{")
    tab.page.click("#ask-button")
    tab.sees("#ask-error", "Parameters, as JSON: this is not JSON")
    tab.page.fill("#ask-parameters", '{"temperature": 0.3}')
    tab.page.click("#ask-button")
    made = row(tab, "terse")
    shown = httpx.post(f"{library.url}/api/show", json={"model": "terse"}).json()
    assert (shown["system"], shown["parameters"].split()) == ("Be terse.", ["temperature", "0.3"])

    made.get_by_role("button", name="Copy terse").click()
    tab.page.fill("#ask-destination", HOSTILE)
    tab.page.click("#ask-button")
    tab.sees("#ask-error", "invalid")
    tab.page.fill("#ask-destination", "terser")
    tab.page.click("#ask-button")

    # The question's focus is not on what can't be undone.
    row(tab, "terser").get_by_role("button", name="Delete terser").click()
    tab.sees("#ask-text", "can't be undone")
    tab.sees("#ask-dialog [data-close]:focus")
    tab.page.keyboard.press("Enter")
    tab.sees_no("#ask-dialog")
    for name in ("terser", "terse"):
        row(tab, name).get_by_role("button", name="Delete").click()
        tab.page.click("#ask-button")
        tab.sees_no(f".model:has(h2:text-is('{name}'))")
    assert tab.page.locator("#models img, #models script").count() == 0


def test_hostile_texts_of_a_model_are_text(library: Server, open_tab: Callable[..., Any]):
    body = {"model": "hostile", "from": "demo", "system": HOSTILE, "license": HOSTILE, "stream": False}
    assert httpx.post(f"{library.url}/api/create", json=body, timeout=60).status_code == 200
    try:
        tab = open_tab(library, "/ui#models")
        row(tab, "hostile").locator("summary").click()
        tab.sees(".shown pre", HOSTILE)
        assert tab.page.locator("#models img, #models script").count() == 0
    finally:
        httpx.request("DELETE", f"{library.url}/api/delete", json={"model": "hostile"}, timeout=60)
