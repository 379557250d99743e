"""What turns of a conversation hold besides text: the calls of tools, and images. Scripted engine."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT, Server

CALL = '!begin !call:get_weather:{"city":"<b>Berlin</b>"} !next It is !result !end'
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def sent(tab: Any) -> list[dict[str, Any]]:
    """Return the messages of the newest question."""
    return list(json.loads(tab.bodies[-1][1])["messages"])


@pytest.mark.parametrize("reloads", [False, True])
def test_a_call_is_a_card_and_takes_the_tools_result(server: Server, open_tab: Callable[..., Any], reloads: bool):
    tab = open_tab(server)
    tab.sees("#tools")
    tab.page.click("#tools-example")
    tab.ask(CALL)
    tab.sees(".turn:last-child .call h4", "get_weather")
    tab.sees(".turn:last-child .call pre", '"city": "<b>Berlin</b>"')
    if reloads:
        tab.page.reload()
        tab.sees(".turn:last-child .call h4", "get_weather")
    tab.sees(".call form")
    tab.page.get_by_label("Result of get_weather").fill("sunny")
    tab.page.click(".call form button")
    tab.answered("It is sunny")
    *_, call, result = sent(tab)
    function = call["tool_calls"][0]["function"]
    assert (function["name"], function["arguments"]) == ("get_weather", {"city": "<b>Berlin</b>"})
    assert (result["role"], result["tool_name"], result["content"]) == ("tool", "get_weather", "sunny")


def test_a_call_without_a_result_does_not_stand_in_the_way(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.ask("!call:get_weather:{}")
    tab.sees(".call form")
    tab.ask("never mind")
    tab.answered("never mind")
    tab.sees_no(".call form")
    assert [each["content"] for each in sent(tab) if each["role"] == "user"][-1] == "never mind"
    assert not [each for each in sent(tab) if each["role"] == "tool"]


def test_images_are_shown_and_sent_to_a_model_that_sees(
    start_server: Callable[..., Server], open_tab: Callable[..., Any], tmp_path: Path
):
    directory = tmp_path / "seeing"
    directory.mkdir()
    for path in (ROOT / "models" / "demo").glob("*.*"):
        (directory / path.name).symlink_to(path)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").unlink()
    (directory / "config.json").write_text(json.dumps({**config, "vision_config": {"depth": 1}}))
    tab = open_tab(start_server({"VLLM_WSGI_MODEL": str(directory), "VLLM_WSGI_MODEL_NAME": "demo"}))
    tab.sees("#attach")
    png = {"mimeType": "image/png", "buffer": b64decode(PNG)}
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"a"}
    tab.page.set_input_files("#images", [{"name": name, **png} for name in ("a.png", "b.png")] + [text])
    tab.sees("#thumbs li:nth-child(2)")
    tab.page.click("#thumbs [aria-label='Remove b.png']")
    tab.sees_no("#thumbs li:nth-child(2)")
    # What can't be sent yet is not lost.
    tab.page.fill("#tools", "[")
    tab.ask("what is it")
    tab.sees("#composer-trouble", "Tools")
    tab.sees("#thumbs img")
    tab.page.fill("#tools", "")
    tab.page.press("#message", "Enter")
    tab.answered("what is it")
    assert sent(tab) == [{"role": "user", "content": "what is it", "images": [PNG]}]
    tab.sees_no("#thumbs img")
    assert tab.sees(".turn .picture").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


def test_a_model_that_does_not_see_is_sent_no_images(server: Server, open_tab: Callable[..., Any]):
    tab = open_tab(server)
    tab.sees("#send:enabled")
    tab.sees_no("#attach")
    tab.ask("what is it")
    tab.answered("what is it")
    assert sent(tab) == [{"role": "user", "content": "what is it"}]
