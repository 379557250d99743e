"""The playground: what is asked, what is kept, and what is copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.servers import Server
from tests.support.waiting import PATIENCE_SECONDS

# What a shell, Python and JavaScript each would take for their own.
TRICKY = 'it\'s "quoted" $HOME `id` \\n ${x} {y} %s é'


def test_json_is_checked_as_it_is_typed_and_a_wrong_one_is_not_sent(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.sees("#tools")
    tab.page.type("#tools", '[{"type": ')
    tab.sees("#tools-error", "Not JSON yet")
    assert tab.page.get_attribute("#tools", "aria-invalid") == "true"
    tab.ask("not yet")
    tab.sees("#composer-trouble", "Tools")
    assert not [url for url in tab.urls if url.endswith("/api/chat")]
    tab.page.click("#tools-example")
    tab.sees("#tools[aria-invalid=false]")
    tab.page.select_option("#format", "schema")
    tab.page.fill("#schema", "[]")
    tab.sees("#schema-error", "must be a JSON object")
    tab.page.fill("#schema", '{"type": "object"}')
    tab.page.fill('[data-option="temperature"]', "0.5")
    tab.page.press("#message", "Enter")
    tab.answered("not yet")
    body = json.loads(tab.bodies[-1][1])
    assert (body["format"], body["options"]) == ({"type": "object"}, {"temperature": 0.5})
    assert body["tools"][0]["function"]["name"] == "get_weather"


def test_json_is_laid_out_while_it_grows(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.page.select_option("#format", "json")
    tab.ask('{"city": !rate:1 "Berlin"}')
    tab.sees(".turn.live .said.json .k", '"city"')
    assert json.loads(tab.bodies[-1][1])["format"] == "json"
    tab.page.click("#stop")


def test_a_conversation_is_taken_up_again_after_a_reload(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.ask("first")
    tab.answered("first")
    tab.ask("!rate:20 !repeat:4000:tick")
    tab.sees(".turn.live", "tick")
    tab.page.reload()
    # The second question has lost its answer with the page.
    tab.sees(".turn:last-child", "no answer yet")
    tab.ask("third")
    tab.answered("third")
    said = [each["content"].strip() for each in json.loads(tab.bodies[-1][1])["messages"]]
    assert said == ["first", "first", "third"]
    tab.page.click("#new-chat")
    tab.page.reload()
    tab.sees(".welcome")


def test_an_error_stands_in_the_answer_with_what_to_do(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.ask("half !fail:the-engine-broke")
    turn = tab.answered("the-engine-broke")
    assert "half" in turn.inner_text()
    tab.ask("!refuse:too-much")
    tab.answered("too-much")
    tab.sees(".turn:last-child button", "Ask again")


def node_module(text: str, directory: Path) -> list[str]:
    (directory / "snippet.mjs").write_text(text)
    return ["node", str(directory / "snippet.mjs")]


COMMANDS: dict[str, Callable[[str, Path], list[str]]] = {
    "curl": lambda text, _: ["bash", "-c", text],
    "Python: ollama": lambda text, _: [sys.executable, "-c", text],
    "Python: openai": lambda text, _: [sys.executable, "-c", text],
    "JavaScript: fetch": node_module,
}


def test_what_is_copied_runs(server: Server, open_tab: Callable[..., Any], tmp_path: Path):
    tab = open_tab(server)
    tab.sees("#send:enabled")
    tab.page.fill('[data-option="seed"]', "7")
    tab.page.fill("#message", TRICKY)
    tab.page.click("#copy-as")
    for name, command in COMMANDS.items():
        tab.page.get_by_role("tab", name=name).click()
        snippet = tab.page.text_content("#snippet")
        arguments = command(snippet, tmp_path)
        if shutil.which(arguments[0]) is None:
            continue
        ran = subprocess.run(
            arguments, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env={**os.environ, "NO_PROXY": "*"}
        )
        assert ran.returncode == 0, (name, ran.stderr, snippet)
        assert_says(TRICKY, ran.stdout, name)
    tab.page.get_by_role("tab", name="Flask").click()
    compile(tab.page.text_content("#snippet"), "flask", "exec")


def assert_says(text: str, output: str, name: str) -> None:
    if name == "curl":
        output = "".join(json.loads(line)["message"]["content"] for line in output.splitlines())
    if name == "JavaScript: fetch":
        output = output.replace("\n", "")
    assert output.split() == text.split(), name


def test_a_broken_browser_storage_costs_nothing_but_the_memory(server: Server, open_tab: Callable[..., Any]):
    def forbid(page: Any) -> None:
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });")

    tab = open_tab(server, before=forbid)
    tab.ask("still here")
    tab.answered("still here")
    tab.page.reload()
    tab.sees(".welcome")
    assert not tab.errors


def test_stop_ends_the_answer_and_its_generation(start_server: Callable[..., Server], open_tab: Callable[..., Any]):
    """A server of its own, since other tests leave streams behind."""
    server = start_server()
    tab = open_tab(server)
    tab.page.check("[value=sse]")
    tab.ask("!rate:20 !repeat:4000:tick")
    tab.sees(".turn.live", "tick tick")
    tab.page.click("#stop")
    tab.sees(".turn-foot", "Stopped.")
    server.wait_until_idle()
