"""A browser for the tests of the page. Without Playwright or Chromium they are skipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import chromium
from tests.support.hub import LoopbackHub
from tests.support.servers import ROOT, SCRIPTED, Server
from tests.support.waiting import PATIENCE_SECONDS

# How long the browser is asked for an element before the test looks whether it can still come.
LOOK_MS = 1000
MODELS = """
[models.demo]
source = "models/demo"
pinned = true

[models.idle]
source = "models/demo"

[models.broken]
source = "models/demo"
engine_args = { fail = "CUDA out of memory. Tried to allocate 2.00 GiB" }
"""


class Tab:
    """A page in a browser of its own profile.

    `urls` is what it asked for, `bodies` what it sent, `errors` what broke in it, and `dialogs` what a script of
    somebody else would show. `unless` returns why nothing can be waited for any more.
    """

    def __init__(
        self, browser: Any, url: str, unless: Callable[[], str], before: Callable[[Any], None] | None, **options: Any
    ) -> None:
        self.page = browser.new_context(**options).new_page()
        # Clicks and the like follow a wait for what they need.
        self.page.set_default_timeout(PATIENCE_SECONDS * 500)
        self.urls: list[str] = []
        self.bodies: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self._unless = unless
        self.page.on("request", self._note_request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note_message)
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        if before:
            before(self.page)
        self.page.goto(url)

    def _note_request(self, request: Any) -> None:
        self.urls.append(request.url)
        if request.post_data:
            self.bodies.append((request.url, request.post_data))

    def _note_message(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)

    def sees(self, selector: str, text: str = "") -> Any:
        """Wait until a visible element of this kind holds the text. Fails at once when the page or the server broke."""
        found = self.page.locator(selector, has_text=text).filter(visible=True).first
        return self._wait(found, "visible", f"{selector} with {text!r}")

    def sees_no(self, selector: str) -> None:
        """Wait until no element of this kind is visible."""
        self._wait(self.page.locator(selector).filter(visible=True).first, "hidden", f"no {selector}")

    def _wait(self, found: Any, state: str, what: str) -> Any:
        from playwright.sync_api import TimeoutError as NotYet

        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                found.wait_for(state=state, timeout=LOOK_MS)
                return found
            except NotYet:
                hopeless = self._unless() or "; ".join(self.errors + self.dialogs)
                if hopeless or time.monotonic() > end:
                    shown = self.page.locator("main").inner_text()
                    raise AssertionError(f"{what}: {hopeless or 'not in time'}\n{shown[-2000:]}") from None

    def ask(self, text: str) -> None:
        self.page.fill("#message", text)
        self.sees("#send:enabled")
        self.page.press("#message", "Enter")

    def answered(self, text: str) -> Any:
        """Wait until the last turn is an answer that has ended and holds the text."""
        return self.sees(".turn[data-role=assistant]:last-child:not(.live)", text)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each of which must have asked one server alone and run nothing but its own scripts.

    `url` is the server's, where that is not what the tab asks; `before` gets the page before it asks for anything.
    """
    tabs: list[tuple[str, Tab]] = []

    def open_tab(
        server: Server, path: str = "/ui", url: str = "", before: Callable[[Any], None] | None = None, **options: Any
    ) -> Tab:
        def unless() -> str:
            return f"the server has ended:\n{server.output[-2000:]}" if server.ended() else ""

        base = url or server.url
        tabs.append((base, Tab(browser, base + path, unless, before, **options)))
        return tabs[-1][1]

    yield open_tab
    for url, tab in tabs:
        tab.page.context.close()
        assert [each for each in tab.urls if not each.startswith((url, "data:"))] == []
        assert tab.errors == tab.dialogs == []


@pytest.fixture(scope="session")
def hub() -> Iterator[LoopbackHub]:
    """A hub on loopback with the demo model."""
    hub = LoopbackHub()
    hub.commit("org/demo", ROOT / "models/demo")
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, hub: LoopbackHub) -> Iterator[Server]:
    """A server with the models above, which tests kill the processes of, and change the models of."""
    directory: Path = tmp_path_factory.mktemp("library")
    (directory / "models.toml").write_text(MODELS)
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(directory / "hf"), "NO_PROXY": "*"}
    server = Server.start(directory, {**SCRIPTED, **env, "VLLM_WSGI_MODELS": str(directory / "models.toml")})
    yield server
    server.stop()
