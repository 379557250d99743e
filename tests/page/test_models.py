"""The models: loading, pulling, creating, copying and deleting them, with errors where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.page.test_page import HOSTILE
from tests.support.hub import LoopbackHub
from tests.support.servers import ROOT, Server, until

WEIGHTS = (ROOT / "models/demo/model.safetensors").stat().st_size


def test_a_model_is_loaded_and_unloaded(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    row = tab.sees(".model:has(h2:text-is('idle'))", "Not loaded")
    row.get_by_role("button", name="Load idle").click()
    tab.sees(".model", "Loaded.")
    tab.sees(".model:has(h2:text-is('idle')) .state", "Ready")
    row.get_by_role("button", name="Unload idle").click()
    tab.sees(".model", "Unloaded.")
    tab.sees(".model:has(h2:text-is('idle')) .state", "Not loaded")
    broken = tab.sees(".model:has(h2:text-is('broken'))")
    broken.get_by_role("button", name="Load broken").click()
    tab.sees(".model:has(h2:text-is('broken')) .bad", "CUDA out of memory")


def test_a_pull_shows_its_progress_and_makes_a_model(
    library: Server, hub: LoopbackHub, open_tab: Callable[..., Any]
):
    pytest.importorskip("huggingface_hub")
    hub.hold_at = WEIGHTS // 2
    tab = open_tab(library, "/ui#models")
    try:
        tab.page.fill("#pull-name", "hf.co/org/demo")
        tab.page.keyboard.press("Enter")
        tab.sees("#pulls .hint", " MB of 3.")
        # The hub holds the weights in the middle: the bar stands between its ends.
        bar = tab.sees("#pulls progress[max]")
        until(lambda: 0 < bar.evaluate("bar => bar.position") < 1, 60, "the bar is in the middle")
    finally:
        hub.release()
    tab.sees("#pulls", "Pulled.")
    row = tab.sees(".model:has(h2:text-is('hf.co/org/demo'))")
    row.get_by_role("button", name="Delete").click()
    tab.page.click("#ask-button")
    tab.sees_no(".model:has(h2:text-is('hf.co/org/demo'))")


def test_a_pull_that_fails_says_so_where_it_was_asked_for(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    tab.page.fill("#pull-name", "llama3")
    tab.page.keyboard.press("Enter")
    tab.sees("#pulls .progress:has-text('llama3') [role=alert]", "name a repository on Hugging Face")


def test_a_model_is_created_copied_and_after_a_question_deleted(library: Server, open_tab: Callable[..., Any]):
    tab = open_tab(library, "/ui#models")
    row = tab.sees(".model:has(h2:text-is('demo'))")
    row.get_by_role("button", name="Create from demo").click()
    tab.page.fill("#ask-model", "terse")
    tab.page.fill("#ask-system", "Be terse.")
    tab.page.fill("#ask-parameters", "{")
    tab.page.click("#ask-button")
    tab.sees("#ask-error", "Parameters, as JSON: this is not JSON")
    tab.page.fill("#ask-parameters", '{"temperature": 0.3}')
    tab.page.click("#ask-button")
    made = tab.sees(".model:has(h2:text-is('terse'))")
    shown = httpx.post(f"{library.url}/api/show", json={"model": "terse"}).json()
    assert (shown["system"], shown["parameters"].split()) == ("Be terse.", ["temperature", "0.3"])

    made.get_by_role("button", name="Copy terse").click()
    tab.page.fill("#ask-destination", HOSTILE)
    tab.page.click("#ask-button")
    tab.sees("#ask-error", "invalid")
    tab.page.fill("#ask-destination", "terser")
    tab.page.click("#ask-button")
    copied = tab.sees(".model:has(h2:text-is('terser'))")

    # The question's focus is not on what can't be undone.
    copied.get_by_role("button", name="Delete terser").click()
    tab.sees("#ask-text", "can't be undone")
    tab.sees("#ask-dialog [data-close]:focus")
    tab.page.keyboard.press("Enter")
    tab.sees_no("#ask-dialog")
    for name in ("terser", "terse"):
        assert tab.page.locator(f".model:has(h2:text-is('{name}'))").count() == 1
        tab.page.locator(f".model:has(h2:text-is('{name}'))").get_by_role("button", name="Delete").click()
        tab.page.click("#ask-button")
        tab.sees_no(f".model:has(h2:text-is('{name}'))")
    assert tab.page.locator("#models img, #models script").count() == 0


def test_hostile_texts_of_a_model_are_text(library: Server, open_tab: Callable[..., Any]):
    body = {"model": "hostile", "from": "demo", "system": HOSTILE, "license": HOSTILE, "stream": False}
    assert httpx.post(f"{library.url}/api/create", json=body, timeout=60).status_code == 200
    try:
        tab = open_tab(library, "/ui#models")
        tab.sees(".model:has(h2:text-is('hostile')) summary").click()
        tab.sees(".shown pre", HOSTILE)
        assert tab.page.locator("#models img, #models script").count() == 0
    finally:
        httpx.request("DELETE", f"{library.url}/api/delete", json={"model": "hostile"}, timeout=60)
