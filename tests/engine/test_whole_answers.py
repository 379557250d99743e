"""Nothing that the model wrote is lost without a reason, on every dialect: limits and stop strings inside calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.asking import ADD, WEATHER, Asker, user

SUM = "What is 1234 plus 5678?"
ANTHROPIC_ADD = {"name": "add", "description": "Add two numbers", "input_schema": ADD["function"]["parameters"]}
RESPONSES_ADD = {"type": "function", **ADD["function"]}


def ollama(demo: Asker, limit: int, **body: Any) -> tuple[str, list[Any]]:
    options = {"num_predict": limit, "temperature": 0, **body.pop("options", {})}
    message = demo.chat(SUM, tools=[ADD], options=options, **body)["message"]
    return message["content"], [call["function"]["arguments"] for call in message.get("tool_calls", [])]


def openai(demo: Asker, limit: int, **body: Any) -> tuple[str, list[Any]]:
    body = {"messages": user(SUM), "tools": [ADD], "temperature": 0, "reasoning_effort": "none", **body}
    message = demo.post("/v1/chat/completions", max_tokens=limit, **body).json()["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    return message["content"] or "", [json.loads(call["function"]["arguments"]) for call in calls]


def responses(demo: Asker, limit: int, **body: Any) -> tuple[str, list[Any]]:
    body = {"input": SUM, "tools": [RESPONSES_ADD], "temperature": 0, "reasoning": {"effort": "none"}, **body}
    output = demo.post("/v1/responses", max_output_tokens=limit, **body).json()["output"]
    texts = [part["text"] for item in output if item["type"] == "message" for part in item["content"]]
    return "".join(texts), [json.loads(item["arguments"]) for item in output if item["type"] == "function_call"]


def anthropic(demo: Asker, limit: int, **body: Any) -> tuple[str, list[Any]]:
    body = {"messages": user(SUM), "tools": [ANTHROPIC_ADD], "temperature": 0, **body}
    blocks = demo.post("/v1/messages", max_tokens=limit, **body).json()["content"]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    return "".join(texts), [block["input"] for block in blocks if block["type"] == "tool_use"]


@pytest.mark.parametrize("ask", [ollama, openai, responses, anthropic])
def test_at_every_limit_a_call_is_whole_or_its_text_is_content(demo: Asker, ask: Any):
    whole = ask(demo, 200)
    seen = ""
    for limit in range(1, 60):
        text, calls = ask(demo, limit)
        if (text, calls) == whole:
            break
        assert calls == []
        assert text.startswith(seen)
        seen = text
    assert "<tool_call>" in seen
    assert "1234" in seen


@pytest.mark.parametrize("stop", ["Answer:", "A", "Observation:", "Z" * 64, "weather?", "Calling tools:"])
def test_a_stop_string_that_never_comes_changes_nothing(demo: Asker, stop: str):
    ask: dict[str, Any] = {"tools": [WEATHER], "think": True}
    without = demo.chat("What is the weather in Paris?", **ask)["message"]
    message = demo.chat("What is the weather in Paris?", options={"stop": [stop]}, **ask)["message"]
    for each in (without, message):
        for call in each["tool_calls"]:
            call.pop("id")
    assert message == without
    assert message["tool_calls"]


@pytest.mark.parametrize("stop", ["short", "\n", ".", "the"])
def test_a_stop_string_does_not_end_the_thinking(demo: Asker, stop: str):
    question = "What is vllm-wsgi?"
    whole = demo.chat(question, think=True)["message"]
    message = demo.chat(question, think=True, options={"stop": [stop]})["message"]
    assert message["thinking"] == whole["thinking"]
    assert message["content"] == whole["content"].partition(stop)[0]


def test_streams_say_what_the_collected_answer_says(demo: Asker):
    for limit in (5, 20, 30, 200):
        options = {"num_predict": limit, "temperature": 0, "stop": ["Z" * 20]}
        ask: dict[str, Any] = {"messages": user(SUM), "tools": [ADD], "think": True, "options": options}
        records = demo.ndjson("/api/chat", **ask)
        collected = demo.post("/api/chat", stream=False, **ask).json()["message"]
        for field in ("content", "thinking"):
            assert "".join(each["message"].get(field, "") for each in records) == collected.get(field, "")
        calls = [call["function"] for each in records for call in each["message"].get("tool_calls", [])]
        assert calls == [call["function"] for call in collected.get("tool_calls", [])]
