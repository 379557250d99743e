"""Agents of other people, run as they ship: each in a home of its own, and with no way out but our server."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from tests.support.servers import ROOT, Program
from tests.support.waiting import until

NODE_MODULES = ROOT / "tests/compat/agents/npm/node_modules"
# Prefixes of variables that would point an agent elsewhere.
FOREIGN = ("ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_", "OTEL_", "NODE_OPTIONS")
TURN_SECONDS = 150.0
# In words, which are the scripted engine's tokens: more than an agent's own instructions, less than two long results.
CONTEXT = 25_000

Event = dict[str, Any]


class ClosedProxy:
    """A proxy that lets nothing through. `asked` are the first lines of the requests that were made of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._refuse_all, daemon=True).start()

    def environment(self) -> dict[str, str]:
        """The variables that send all but loopback here."""
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), self.url)
        both = proxies | {"NO_PROXY": "127.0.0.1,localhost"}
        return both | {name.lower(): value for name, value in both.items()}

    def close(self) -> None:
        # Wakes the thread, which accept() would keep for ever.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _refuse_all(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(1000).partition(b"\r\n")[0].decode(errors="replace"))


class Agent:
    """One program of an npm package, run by node. What it works on is in `work`, what it remembers in `home`."""

    def __init__(self, entry: str, directory: Path, env: dict[str, str]) -> None:
        self.home, self.work = directory / "home", directory / "work"
        self.home.mkdir()
        self.work.mkdir()
        self._entry = str(NODE_MODULES / entry)
        self._env = {**env, "HOME": str(self.home)}

    def run(self, *arguments: str) -> list[Event]:
        """The events of one turn: the lines of its output that are JSON. Fails when it takes too long."""
        unset = [f"--unset={name}" for name in os.environ if name.startswith(FOREIGN)]
        command = ["env", *unset, "node", self._entry, *arguments]
        program = Program(command, self.home.parent, self._env, cwd=self.work)
        try:
            until(program.ended, TURN_SECONDS, f"a turn of {self._entry} ends")
        finally:
            program.stop()
        events = [json.loads(line) for line in program.output.splitlines() if line.startswith("{")]
        assert events, program.output[-3000:]
        return events


class Codex(Agent):
    """Codex CLI as its users point it at an Ollama server: nothing is set but the base URL.

    What is switched off beside that asks other servers: updates, plug-ins and statistics.
    """

    QUIET = """
check_for_update_on_startup = false
analytics.enabled = false
feedback.enabled = false
otel = { exporter = "none", metrics_exporter = "none", trace_exporter = "none" }
features = { plugins = false, apps = false }
"""
    OPTIONS = (
        "--oss", "--local-provider", "ollama", "-m", "demo", "--json", "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
    )  # fmt: skip

    def __init__(self, url: str, directory: Path, env: dict[str, str]) -> None:
        super().__init__("@openai/codex/bin/codex.js", directory, {**env, "CODEX_OSS_BASE_URL": f"{url}/v1"})
        settings = self.home / ".codex" / "config.toml"
        settings.parent.mkdir()
        settings.write_text(self.QUIET)

    def ask(self, prompt: str) -> list[Event]:
        return self.run("exec", *self.OPTIONS, prompt)

    def ask_further(self, prompt: str) -> list[Event]:
        """The next turn of the newest conversation."""
        return self.run("exec", *self.OPTIONS, "resume", "--last", prompt)

    @property
    def history(self) -> Path:
        """The file that holds the only conversation."""
        (history,) = (self.home / ".codex" / "sessions").rglob("*.jsonl")
        return history


class ClaudeCode(Agent):
    """Claude Code as its users point it at a gateway: the base URL and a token."""

    QUIET = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    }
    OPTIONS = ("--model", "demo", "--allowedTools=Bash", "-p", "--output-format", "stream-json", "--verbose")

    def __init__(self, url: str, directory: Path, env: dict[str, str]) -> None:
        ours = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "unused"}
        super().__init__("@anthropic-ai/claude-code/cli-wrapper.cjs", directory, {**env, **self.QUIET, **ours})

    def ask(self, prompt: str) -> list[Event]:
        return self.run(*self.OPTIONS, prompt)

    def ask_further(self, prompt: str) -> list[Event]:
        """The next turn of the newest conversation."""
        return self.run("--continue", *self.OPTIONS, prompt)


class Continue(Agent):
    """Continue's command-line program with a model of its provider `ollama`."""

    SETTINGS = """
name: Local
version: 1.0.0
schema: v1
models:
  - name: demo
    provider: ollama
    model: demo
    apiBase: {url}
    capabilities: [tool_use]
"""

    def __init__(self, url: str, directory: Path, env: dict[str, str]) -> None:
        super().__init__("@continuedev/cli/dist/cn.js", directory, {**env, "CONTINUE_TELEMETRY_ENABLED": "0"})
        self._settings = self.home / "config.yaml"
        self._settings.write_text(self.SETTINGS.format(url=url))

    def ask(self, prompt: str, *options: str) -> list[Event]:
        return self.run("--config", str(self._settings), "--auto", "-p", "--format", "json", *options, prompt)

    def ask_further(self, prompt: str) -> list[Event]:
        """The next turn of the newest conversation."""
        return self.ask(prompt, "--resume")


def scripted(*answers: str) -> str:
    """What an agent's user writes, so that the scripted engine gives these answers to the turn's requests."""
    return f"!begin {' !next '.join(answers)} !end"


def call(tool: str, **arguments: Any) -> str:
    """A scripted call. Its JSON holds no space, at which the script is split."""
    return f"!call:{tool}:" + json.dumps(arguments, separators=(",", ":")).replace(" ", "\\u0020")
