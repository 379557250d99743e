"""What only other dialects than Ollama's ask of the engine: several answers, tool choices, echoes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.asking import ADD, WEATHER, Asker, user

pytestmark = pytest.mark.engine


def complete(demo: Asker, **body: Any) -> dict[str, Any]:
    answer = demo.post("/v1/completions", max_tokens=6, **body)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record


def chat(demo: Asker, content: str, **body: Any) -> dict[str, Any]:
    """The first choice."""
    answer = demo.post("/v1/chat/completions", messages=user(content), **{"reasoning_effort": "none", **body})
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def calls(choice: dict[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in choice["message"].get("tool_calls", [])]
    return [(function["name"], json.loads(function["arguments"])) for function in functions]


def test_each_of_several_answers_has_its_own_seed_and_one_end(demo: Asker):
    fields = {"prompt": "The", "temperature": 2, "seed": 5, "n": 4}
    choices = complete(demo, **fields)["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["length"] * 4
    assert len({choice["text"] for choice in choices}) > 1
    assert complete(demo, **fields)["choices"] == choices


def test_the_spelling_of_a_special_token_is_that_token(demo: Asker):
    """As docs/reference/dialects.md says, and as Ollama and vLLM's own server have it."""
    tokens = [
        complete(demo, prompt=prompt)["usage"]["prompt_tokens"]
        for prompt in ("a", "a<|im_end|>", "a<|im_end|><|im_end|>")
    ]
    assert tokens == [tokens[0], tokens[0] + 1, tokens[0] + 2]


def test_several_greedy_answers_are_alike(demo: Asker):
    (alone,) = complete(demo, prompt="The sky is", temperature=0)["choices"]
    several = complete(demo, prompt="The sky is", temperature=0, n=3)["choices"]
    assert [choice["text"] for choice in several] == [alone["text"]] * 3


def test_prompts_of_one_call_are_answered_as_if_they_were_alone(demo: Asker):
    prompts = ["The sky is", "My name is", "What is"]
    together = [choice["text"] for choice in complete(demo, prompt=prompts)["choices"]]
    assert together == [complete(demo, prompt=prompt)["choices"][0]["text"] for prompt in prompts]


def test_a_parser_reads_each_answer(demo: Asker):
    question = user("What is the weather in Paris?")
    answer = demo.post("/v1/chat/completions", messages=question, tools=[WEATHER], n=2, temperature=0.01)
    assert [calls(choice) for choice in answer.json()["choices"]] == [[("get_current_weather", {"city": "Paris"})]] * 2
    assert all(choice["message"]["reasoning"] for choice in answer.json()["choices"])


def test_a_required_call_comes_after_the_thinking(demo: Asker):
    question = "What is the weather in Paris?"
    choice = chat(demo, question, tools=[WEATHER], tool_choice="required", reasoning_effort="low")
    assert choice["message"]["reasoning"]
    assert [name for name, _ in calls(choice)] == ["get_current_weather"]
    assert choice["finish_reason"] == "tool_calls"


def test_a_strict_tool_gets_what_its_schema_says(demo: Asker):
    function = {**ADD["function"], "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False,
    }}  # fmt: skip
    named = {"type": "function", "function": {"name": "add"}}
    ((name, arguments),) = calls(
        chat(demo, "Hello", tools=[{"type": "function", "function": function}], tool_choice=named)
    )
    assert (name, arguments["a"] in (1, 2)) == ("add", True)


@pytest.mark.parametrize(("parallel", "count"), [(True, 2), (False, 1)])
def test_without_parallel_calls_there_is_one(demo: Asker, parallel: bool, count: int):
    question = "What is the weather in Paris and Rome?"
    choice = chat(demo, question, tools=[WEATHER], parallel_tool_calls=parallel)
    assert len(calls(choice)) == count


def test_a_tool_that_may_not_be_called_is_not(demo: Asker):
    choice = chat(demo, "What is the weather in Paris?", tools=[WEATHER], tool_choice="none")
    assert (calls(choice), choice["finish_reason"]) == ([], "stop")


def test_an_echo_is_the_prompts_text(demo: Asker):
    (text,) = [choice["text"] for choice in complete(demo, prompt="The sky is")["choices"]]
    scored = complete(demo, prompt="The sky is", echo=True, logprobs=0)["choices"][0]
    assert scored["text"] == "The sky is" + text
    assert "".join(scored["logprobs"]["tokens"]) == scored["text"]
    assert complete(demo, prompt=[8, 9], echo=True)["choices"][0]["text"].startswith("#$")


@pytest.mark.parametrize("stop", [[], ["x" * 40]])
def test_each_token_has_its_place_in_the_text_also_where_a_stop_string_might_begin(demo: Asker, stop: list[str]):
    stream = demo.post("/v1/completions", prompt="The sky is", max_tokens=6, logprobs=0, stop=stop, stream=True).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["text"] for choice in choices)
    listed = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    tokens = [token for part in listed for token in part["tokens"]]
    offsets = [offset for part in listed for offset in part["text_offset"]]
    assert "".join(tokens) == text
    assert [text[offset : offset + len(token)] for offset, token in zip(offsets, tokens, strict=True)] == tokens


def test_the_prompt_of_several_answers_is_scored_once_and_each_echoes_it(demo: Asker):
    fields = {"prompt": "The sky is blue and the sun", "echo": True, "logprobs": 2, "temperature": 2, "seed": 5}
    (alone,) = complete(demo, **fields)["choices"]
    choices = complete(demo, n=3, **fields)["choices"]
    assert len({choice["text"] for choice in choices}) > 1
    tokens = len(alone["logprobs"]["tokens"]) - 6
    for choice in choices:
        assert choice["text"].startswith(fields["prompt"])
        assert len(choice["logprobs"]["tokens"]) == tokens + 6
        for name in ("tokens", "text_offset", "top_logprobs"):
            assert [*map(keys, choice["logprobs"][name][:tokens])] == [*map(keys, alone["logprobs"][name][:tokens])]
        scores = choice["logprobs"]["token_logprobs"]
        assert scores[0] is None
        assert scores[1:tokens] == pytest.approx(alone["logprobs"]["token_logprobs"][1:tokens], abs=0.1)


def keys(value: Any) -> Any:
    """What does not depend on how the engine has batched the prompt."""
    return sorted(value) if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/completions", {"prompt": ""}, "the prompt is empty"),
        ("/v1/completions", {"prompt": []}, "the prompt is empty"),
        ("/v1/completions", {"prompt": [10**9]}, "out of vocabulary"),
        ("/v1/completions", {"prompt": [1] * 40_000}, "maximum context length is 32768 tokens"),
        ("/v1/completions", {"prompt": "a", "min_tokens": 9, "max_tokens": 2}, "min_tokens"),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": [-1]}, ""),
        ("/v1/chat/completions", {"messages": user("a"), "response_format": {
            "type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}}, "nonsense"),
        ("/v1/chat/completions", {"messages": user("a"), "tool_choice": "required", "tools": [
            {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "nonsense"}}}]}, ""),
        ("/v1/chat/completions", {"messages": user("a"), "tools": [
            {"type": "function", "function": {"name": "f", "parameters": 1}}]}, "parameters"),
    ],
)  # fmt: skip
def test_what_the_engine_refuses_is_a_400(demo: Asker, path: str, body: dict[str, Any], text: str):
    answer = demo.post(path, **body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert text in answer.json()["error"]["message"]
