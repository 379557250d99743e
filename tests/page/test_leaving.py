"""What becomes of an answer when its page goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.servers import Server

# Longer than the test waits, so that the answer does not end by itself.
ENDLESS = "!rate:5 !repeat:100000:tick"
LEAVE: dict[str, Callable[[Any, Server], Any]] = {
    "close": lambda page, _: page.close(),
    "reload": lambda page, _: page.reload(),
    "go elsewhere": lambda page, server: page.goto(server.url),
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody else asks: its engine is idle when the answer has ended."""
    server = Server.start(tmp_path_factory.mktemp("quiet"))
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("transport", "leave"),
    [("ndjson", "close"), ("ndjson", "reload"), ("eventsource", "close"), ("eventsource", "go elsewhere")],
)
def test_an_answer_ends_with_its_page(quiet: Server, open_tab: Callable[..., Any], transport: str, leave: str):
    tab = open_tab(quiet)
    tab.sees("#link-text", "Connected")
    tab.page.check(f"[value={transport}]")
    tab.ask(ENDLESS)
    tab.sees(".turn.live", "tick")
    quiet.wait_until_running(1)
    LEAVE[leave](tab.page, quiet)
    quiet.wait_until_idle()


def test_a_new_question_ends_an_answer_that_was_cut(quiet: Server, open_tab: Callable[..., Any]):
    tab = open_tab(quiet)
    tab.sees("#link-text", "Connected")
    tab.ask(ENDLESS)
    tab.sees(".turn.live", "tick")
    quiet.wait_until_running(1)
    tab.page.click("#cut")
    tab.sees(".turn button", "Resume")
    tab.ask("another")
    tab.answered("another")
    tab.sees_no(".turn button:has-text('Resume')")
    quiet.wait_until_idle()
    assert tab.page.locator(".turn.live").count() == 0
