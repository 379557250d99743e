"""A prompt that is too long for the model, on every route: OpenAI's and Anthropic's refuse it, Ollama's shorten it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.asking import WEATHER, Asker, tool, user

# More messages than any context here has tokens left for, each of a few tokens.
TURNS = [turn for _ in range(4000) for turn in (*user("Tell me more."), {"role": "assistant", "content": "Certainly."})]
LONG: list[dict[str, Any]] = [*TURNS, *user("What is vllm-wsgi?")]
WORDS = "word " * 40_000
# As much as Open WebUI sends with each chat: 25 KB, more than 10,000 tokens.
TOOLS = [tool(f"tool_{number}", "Looks up a record of this kind. " * 15, text="string") for number in range(40)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": LONG}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/completions", {"prompt": WORDS}),
        ("/v1/completions", {"prompt": [9] * 40_000}),
    ],
)
def test_openais_routes_refuse_it_with_the_code_and_the_numbers(demo: Asker, path: str, body: dict[str, Any]):
    refused = demo.post(path, **body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is" in error["message"]


def test_anthropics_route_refuses_it_in_its_own_words(demo: Asker):
    refused = demo.post("/v1/messages", messages=LONG, max_tokens=5)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("prompt is too long: ")


def test_a_message_of_no_tokens_is_empty_and_puts_its_prompt_into_the_cache(demo: Asker):
    turns = user("What is vllm-wsgi? " * 40)
    empty = demo.post("/v1/messages", messages=turns, max_tokens=0).json()
    assert (empty["content"], empty["stop_reason"], empty["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert demo.post("/v1/messages", messages=turns, max_tokens=1).json()["usage"]["cache_read_input_tokens"] > 0


def test_ollamas_routes_and_clients_that_say_so_get_an_answer(demo: Asker):
    options = {"num_predict": 3, "num_ctx": 2048}
    assert demo.chat(LONG, options=options)["eval_count"] > 0
    assert demo.generate(WORDS, raw=True, options=options)["eval_count"] > 0
    kept: dict[str, Any] = {"max_output_tokens": 3, "truncation": "auto"}
    # This route has no num_ctx, and a prompt that fills the whole context takes the CPU half a minute.
    turns = [*user(WORDS), *user("What is vllm-wsgi?")]
    assert demo.post("/v1/responses", input=turns, **kept).status_code == 200
    kept = {"max_tokens": 3, "truncate_prompt_tokens": 50}
    assert demo.post("/v1/completions", prompt="word " * 5000, **kept).json()["usage"]["prompt_tokens"] == 50
    assert demo.post("/v1/chat/completions", messages=LONG, **kept).json()["usage"]["prompt_tokens"] == 50


def test_ollamas_routes_refuse_it_with_the_numbers_when_nothing_may_be_cut(demo: Asker):
    refused = demo.post("/api/chat", messages=LONG, truncate=False)
    assert refused.status_code == 400
    assert "maximum context length is" in refused.json()["error"]


def test_tools_that_do_not_fit_are_refused_with_both_numbers(demo: Asker):
    refused = demo.post("/api/chat", messages=user("Hello"), tools=TOOLS, options={"num_ctx": 2048})
    assert refused.status_code == 400
    numbers = re.search(r"the prompt has (\d+) tokens, and the maximum .* 2048 tokens", refused.json()["error"])
    assert numbers, refused.text
    assert int(numbers[1]) > 2048


def test_behind_as_many_tools_a_program_gets_its_call(demo: Asker):
    record = demo.chat("What is the weather in Paris?", tools=[WEATHER, *TOOLS[:33]])
    assert record["prompt_eval_count"] > 10_000
    (call,) = record["message"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("get_current_weather", {"city": "Paris"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": list(range(100_000, 101_000))}),
        ("/v1/chat/completions", {"messages": user("?"), "logit_bias": {str(n): 1 for n in range(90_000, 91_000)}}),
        ("/v1/chat/completions", {"messages": user("?"), "allowed_token_ids": list(range(90_000, 91_000))}),
        ("/v1/chat/completions", {"messages": user("?"), "stop_token_ids": [2**40] * 1000}),
    ],
)
def test_an_error_does_not_repeat_all_of_what_it_refuses(demo: Asker, path: str, body: dict[str, Any]):
    answer = demo.post(path, **body, max_tokens=2)
    assert answer.status_code in (200, 400)
    assert len(answer.text) < 1000
