"""A browser for the tests of the page. Without Playwright or Chromium they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


class Tab:
    """A page in a browser of its own profile; `urls` is what it asked for, `errors` what broke in it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.urls: list[str] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._note(message))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)

    def sees(self, selector: str, text: str) -> Any:
        """Wait until an element of this kind holds the text."""
        found = self.page.locator(selector, has_text=text).first
        found.wait_for()
        return found

    def ask(self, text: str) -> None:
        self.page.fill("#message", text)
        self.page.keyboard.press("Enter")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-page")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each of which must have asked one server alone and run nothing but its own scripts."""
    tabs: list[tuple[str, Tab]] = []

    def open_tab(url: str, path: str = "/ui", **options: Any) -> Tab:
        tabs.append((url, Tab(browser, url + path, **options)))
        return tabs[-1][1]

    yield open_tab
    for url, tab in tabs:
        tab.page.context.close()
        assert [each for each in tab.urls if not each.startswith((url, "data:"))] == []
        assert tab.errors == tab.dialogs == []
