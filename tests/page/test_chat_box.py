"""The tutorial's chat box in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.chat_box import chat_box


def test_a_question_is_answered_in_the_page(tmp_path: Path, open_tab: Callable[..., Any]):
    with chat_box(tmp_path) as host:
        tab = open_tab(host, "/chat", url=f"http://127.0.0.1:{host.port}")
        tab.page.fill("[name=question]", "!rate:20 one two <b>three</b>")
        tab.page.click("button")
        tab.sees("#answer", "one two <b>three</b>")
        assert tab.page.locator("#answer b").count() == 0
        tab.page.fill("[name=question]", "a !fail:oh")
        tab.page.click("button")
        tab.sees("#answer", "a oh")
