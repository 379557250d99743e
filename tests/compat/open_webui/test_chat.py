"""Open WebUI, unchanged and with function calling at its default, over Ollama's API and over OpenAI's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.agents import scripted
from tests.support.open_webui import OPENAI_PREFIX, WebUIChat
from tests.support.servers import Server

OLLAMA, OPENAI = "demo:latest", f"{OPENAI_PREFIX}.demo:latest"
# A tool of its own, which it offers to each model and runs itself.
CLOCK = "get_current_timestamp"

OpenChat = Callable[..., WebUIChat]


def test_it_lists_the_models_of_both_connections(open_chat: OpenChat):
    assert {OLLAMA, OPENAI} <= set(open_chat().models())


@pytest.mark.parametrize("model", [OLLAMA, OPENAI])
def test_it_streams_an_answer_behind_its_thinking(open_chat: OpenChat, scripted_server: Server, model: str):
    chat = open_chat(model)
    chat.ask(scripted("!think:hm !think:deep The answer is **here** !rate:2 !repeat:1000:word"))
    chat.sees("The answer is here")
    # The answer has minutes to go: its text is shown while it grows.
    chat.sees("word word word")
    scripted_server.wait_until_running()
    chat.stop()
    scripted_server.wait_until_idle()
    assert "Thought for" in chat.answered("word word")


@pytest.mark.parametrize("model", [OLLAMA, OPENAI])
def test_the_conversation_goes_on_after_a_stop_and_in_another_chat(open_chat: OpenChat, model: str):
    chat = open_chat(model)
    chat.ask(scripted("!rate:5 !repeat:10000:word"))
    chat.sees("word word")
    chat.stop()
    chat.answered("word word")
    chat.ask(scripted("after the stop"))
    assert "after the stop" in chat.answered("after the stop")
    chat.begin_another()
    chat.ask(scripted("in another chat"))
    assert "word word" not in chat.answered("in another chat")


@pytest.mark.parametrize("model", [OLLAMA, OPENAI])
def test_a_tool_of_its_own_is_called_and_its_result_comes_back(open_chat: OpenChat, model: str):
    chat = open_chat(model)
    chat.ask(scripted(f"!call:{CLOCK}:{{}}", "The tool says !result"))
    assert CLOCK in chat.answered('The tool says {"current_timestamp":')


@pytest.mark.parametrize("model", [OLLAMA, OPENAI])
def test_an_error_is_shown_with_its_reason(open_chat: OpenChat, model: str):
    chat = open_chat(model)
    chat.ask(scripted("!refuse:not-today"))
    assert "not-today" in chat.answered("not-today")
    chat.ask(scripted("once again"))
    assert "once again" in chat.answered("once again")
