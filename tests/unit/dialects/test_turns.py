"""Other requests have their turn while a body of tens of thousands of objects is read."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from service.dialects import turns
from service.dialects.anthropic import models as anthropic_models
from service.dialects.anthropic.request import parse_messages
from service.dialects.go_base64 import decode
from service.dialects.ollama.models import tags
from service.dialects.ollama.request import parse_chat as parse_ollamas_chat
from service.dialects.openai import models as openai_models
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.responses_request import parse_responses
from service.protocol.model_info import ModelInfo

COUNT = 4_000
USER = [{"role": "user", "content": "a"}]
CALL = {"id": "1", "type": "function", "function": {"name": "a", "arguments": {}}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "b"}
OUTPUT = {"type": "function_call_output", "call_id": "a"}
TEXT = {"type": "text", "text": "a"}

BODIES: list[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = [
    (parse_messages, {"messages": [{"role": "user", "content": [RESULT] * COUNT}]}),
    (parse_messages, {"messages": [{"role": "user", "content": [{**RESULT, "content": [TEXT] * COUNT}]}]}),
    (parse_messages, {"messages": [{"role": "assistant", "content": [{"type": "tool_use"}] * COUNT}, *USER]}),
    (parse_messages, {"messages": USER * COUNT}),
    (parse_messages, {"messages": USER, "system": [TEXT] * COUNT}),
    (parse_chat, {"messages": USER * COUNT}),
    (parse_chat, {"messages": [{"role": "user", "content": [TEXT] * COUNT}]}),
    (parse_chat, {"messages": [{"role": "assistant", "tool_calls": [CALL] * COUNT}, *USER]}),
    (parse_ollamas_chat, {"messages": USER * COUNT}),
    (parse_ollamas_chat, {"messages": [{"role": "assistant", "tool_calls": [CALL] * COUNT}, *USER]}),
    (parse_responses, {"input": USER * COUNT}),
    (parse_responses, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * COUNT}]}),
    (parse_responses, {"input": [{**OUTPUT, "output": [TEXT] * COUNT}]}),
    (parse_responses, {"input": [{"type": "reasoning", "summary": [TEXT] * COUNT}, *USER]}),
]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list with an entry for each turn that was given to others."""
    times: list[float] = []
    reader, sleep = threading.get_ident(), time.sleep

    def note(seconds: float) -> None:
        # Threads that other tests have left behind sleep, too.
        if threading.get_ident() == reader:
            times.append(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", note)
    return times


@pytest.mark.parametrize("listed", [tags, openai_models.models, anthropic_models.models])
def test_many_models_are_listed_in_turns(listed: Callable[[list[ModelInfo]], Any], given: list[float]):
    listed([ModelInfo(name="m:latest")] * COUNT)
    assert given == [0] * (COUNT // turns.AT_ONCE)


@pytest.mark.parametrize(("parse", "body"), BODIES)
def test_a_long_list_of_any_kind_is_read_in_turns(
    parse: Callable[[dict[str, Any]], Any], body: dict[str, Any], given: list[float]
):
    limit = {"max_tokens": 1} if "messages" in body else {}
    parse({"model": "m", **limit, **body})
    assert len(given) >= COUNT // turns.AT_ONCE
    assert set(given) == {0}


def test_a_short_one_is_read_at_once(given: list[float]):
    assert list(turns.in_turns(range(499))) == list(range(499))
    parse_chat({"model": "m", "messages": USER})
    assert given == []


def test_a_large_image_is_decoded_in_turns(given: list[float]):
    data = bytes(range(256)) * 40_000
    assert decode(b64encode(data).decode()) == data
    assert len(given) == 3
