"""Open WebUI as pip installs it, with no way out but our server, and one of its chats in a browser."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import ROOT, WebProgram, free_port
from tests.support.waiting import PATIENCE_SECONDS, until

PROGRAM = ROOT / ".venv-open-webui/bin/open-webui"
# It imports much, and makes its database when it starts for the first time.
START_SECONDS = 300.0
# Before the name of each model of the OpenAI connection, since the Ollama connection has the same models.
OPENAI_PREFIX = "openai"
# No hub of models, no look for updates, no statistics, and no model that embeds in its own process.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "OFFLINE_MODE": "True",
    "RAG_EMBEDDING_ENGINE": "ollama",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
}
# Each of these asks the model with the whole conversation in one message, whose script the engine would play once more.
WITHOUT_TASKS = dict.fromkeys(
    ("ENABLE_TITLE_GENERATION", "ENABLE_TAGS_GENERATION", "ENABLE_FOLLOW_UP_GENERATION"), "False"
)
# Prefixes of variables that would configure it otherwise.
FOREIGN = ("OLLAMA_", "OPENAI_", "WEBUI_", "RAG_", "OTEL_", "DATABASE_")


class OpenWebUI(WebProgram):
    """`open-webui serve`, which asks one server by Ollama's API and by OpenAI's. Nobody has to log in."""

    def __init__(self, server_url: str, directory: Path, env: dict[str, str]) -> None:
        port = free_port()
        ours = {
            "HOME": str(directory),
            "DATA_DIR": str(directory / "data"),
            "WEBUI_AUTH": "False",
            "WEBUI_SECRET_KEY": "a key of thirty-two bytes or more",
            "OLLAMA_BASE_URL": server_url,
            "OPENAI_API_BASE_URL": f"{server_url}/v1",
            "OPENAI_API_KEY": "unused",
            "OPENAI_API_CONFIGS": json.dumps({"0": {"enable": True, "prefix_id": OPENAI_PREFIX}}),
        }
        unset = [f"--unset={name}" for name in os.environ if name.startswith(FOREIGN)]
        serve = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
        quiet = env | QUIET | WITHOUT_TASKS
        super().__init__(["env", *unset, *serve], directory, port, quiet | ours, cwd=directory)

    def serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class WebUIChat:
    """A new chat in a tab of a browser, with the default model or a named one."""

    def __init__(self, browser: Any, program: OpenWebUI, model: str = "") -> None:
        self._program = program
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.set_default_timeout(PATIENCE_SECONDS * 2000)
        self.page.goto(f"{program.url}/?models={model}" if model else program.url)
        self.page.locator("#chat-input").wait_for()
        # It tells what is new to everyone who sees it for the first time.
        news = self.page.get_by_role("button", name="Okay, Let's Go!")
        self._wait(lambda: news.count() or self.page.locator("button", has_text="demo").count(), "the page is there")
        if news.count():
            news.click()

    def ask(self, text: str) -> None:
        self.page.locator("#chat-input").fill(text)
        self.page.keyboard.press("Enter")

    def begin_another(self) -> None:
        # What its keyboard shortcut clicks; the visible button depends on the width of the window.
        self.page.locator("#new-chat-button").evaluate("button => button.click()")
        self._wait(lambda: not self.page.locator(".chat-assistant").count(), "an empty chat")

    def sees(self, text: str) -> None:
        """Wait until the newest answer holds the text."""
        self._wait(lambda: text in self._newest(), f"an answer with {text!r}")

    def answered(self, text: str) -> str:
        """Wait until the newest answer has ended and holds the text. Return all of its text."""
        self.sees(text)
        self._wait(lambda: not self.page.get_by_role("button", name="Stop").count(), "the answer has ended")
        return self._newest()

    def stop(self) -> None:
        self.page.get_by_role("button", name="Stop").click()

    def models(self) -> list[str]:
        """The models that it offers."""
        self.page.locator("#model-selector-model-button").click()
        options = self.page.get_by_role("option")
        self._wait(options.count, "a model")
        labels = [option.get_attribute("aria-label") for option in options.all()]
        self.page.keyboard.press("Escape")
        return [label.removeprefix("Select ").removesuffix(" model") for label in labels]

    def close(self) -> None:
        self.page.context.close()

    def _newest(self) -> str:
        answers = self.page.locator(".chat-assistant")
        return str(answers.last.inner_text()) if answers.count() else ""

    def _wait(self, condition: Callable[[], Any], what: str) -> None:
        def unless() -> str:
            return f"Open WebUI has ended:\n{self._program.output[-2000:]}" if self._program.ended() else ""

        try:
            until(condition, PATIENCE_SECONDS * 2, what, unless)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.page.inner_text('body')[-2000:]}") from None
