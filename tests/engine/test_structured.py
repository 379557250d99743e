"""Structured output from the demo model, which was never trained to write JSON: every answer ends, and fits."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.engine.vllm.grammars import WHITE_SPACE
from tests.support.asking import ADD, Asker, user
from tests.support.schemas import SCHEMAS

QUESTION = "Describe a person named Anna who is 30 years old, as JSON."
LIMIT = 200


def ask(demo: Asker, schema: Any, temperature: float, **body: Any) -> dict[str, Any]:
    options = {"temperature": temperature, "num_predict": LIMIT, "seed": 1}
    return demo.chat(QUESTION, format=schema, options=options, **body)


@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
def test_every_schema_ends_with_json_or_inside_a_text_or_a_list_that_has_no_bound(demo: Asker, temperature: float):
    with ThreadPoolExecutor(16) as pool:
        schemas = [schema for schema, *_ in SCHEMAS.values()]
        answers = list(pool.map(lambda schema: ask(demo, schema, temperature), schemas))
    for name, answer in zip(SCHEMAS, answers, strict=True):
        text = answer["message"]["content"]
        assert not re.search(r"[ \t\r\n]" + f"{{{2 * WHITE_SPACE + 1}}}", without_texts(text)), name
        if answer["done_reason"] == "stop":
            json.loads(text)
        else:
            assert answer["eval_count"] == LIMIT, name
            assert is_within_text(text) or "[" in text or "additional" in str(SCHEMAS[name][0]), (name, text)


def without_texts(text: str) -> str:
    """The JSON without what stands in its strings, also in one that is not closed."""
    return re.sub(r'"(?:[^"\\]|\\.)*("|$)', "TEXT", text, flags=re.DOTALL)


def is_within_text(text: str) -> bool:
    return len(re.findall(r'(?<!\\)"', text.replace("\\\\", ""))) % 2 == 1


@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
def test_the_first_schema_that_people_try_ends(demo: Asker, temperature: float):
    flag = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    answer = ask(demo, flag, temperature)
    assert answer["done_reason"] == "stop"
    assert isinstance(json.loads(answer["message"]["content"])["a"], bool)


def on_every_route(schema: Any) -> list[tuple[str, dict[str, Any]]]:
    """The path and body of a request for this schema, on each route that takes one."""
    named = {"name": "x", "schema": schema}
    return [
        ("/api/chat", {"messages": user(QUESTION), "format": schema, "think": False}),
        ("/api/generate", {"prompt": QUESTION, "format": schema, "think": True}),
        ("/v1/chat/completions", {
            "messages": user(QUESTION), "response_format": {"type": "json_schema", "json_schema": named},
        }),
        ("/v1/completions", {"prompt": QUESTION, "structured_outputs": {"json": schema}, "max_tokens": LIMIT}),
        ("/v1/responses", {"input": QUESTION, "text": {"format": {"type": "json_schema", **named}}}),
        ("/v1/messages", {
            "messages": user(QUESTION), "max_tokens": LIMIT,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }),
        ("/v1/messages", {
            "messages": user(QUESTION), "max_tokens": LIMIT, "output_format": {"type": "json_schema", "schema": schema},
        }),
    ]  # fmt: skip


def answer_text(path: str, answer: dict[str, Any]) -> str:
    """The text of an answer that is not streamed, without its thinking."""
    if path.startswith("/api/"):
        return str(answer["response"] if "response" in answer else answer["message"]["content"])
    if path == "/v1/messages":
        return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
    if path == "/v1/responses":
        messages = [item for item in answer["output"] if item["type"] == "message"]
        return "".join(part["text"] for item in messages for part in item["content"])
    choice = answer["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def test_a_schema_is_kept_to_on_every_route_also_behind_thinking(demo: Asker):
    flag = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    for path, body in on_every_route(flag):
        answer = demo.post(path, stream=False, temperature=0, **body).json()
        assert isinstance(json.loads(answer_text(path, answer))["a"], bool), (path, answer)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_forced_call_comes_behind_any_thought(demo: Asker, choice: Any):
    """The model knows no such question, and would often end its answer within the thought."""

    def answer(seed: int) -> dict[str, Any]:
        fields = {"tools": [ADD], "tool_choice": choice, "temperature": (0, 0.7, 1.0)[seed % 3], "seed": seed}
        messages = user("Call the tool for Anna, 30.")
        whole = demo.post("/v1/chat/completions", messages=messages, max_tokens=2000, **fields).json()["choices"][0]
        return {"reasoning": "", "tool_calls": [], **whole["message"], "finish_reason": whole["finish_reason"]}

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(answer, range(24)))
    assert all(each["reasoning"] for each in answers)
    assert {each["finish_reason"] for each in answers} <= {"tool_calls", "length"}
    called = [each["tool_calls"] for each in answers if each["finish_reason"] == "tool_calls"]
    assert len(called) >= 22, "a limit ends few thoughts"
    assert all(sorted(json.loads(call[0]["function"]["arguments"])) == ["a", "b"] for call in called)


def test_json_without_a_schema_has_bounded_white_space(demo: Asker):
    text = ask(demo, "json", 0)["message"]["content"]
    assert text.startswith("{")
    assert not re.search(r"\s" + f"{{{WHITE_SPACE + 1}}}", without_texts(text))


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "string", "pattern": r"^\p{L}{2}$"}, "#/pattern: can't be compiled"),
        ({"enum": [f"e{number}" for number in range(1001)]}, "#/enum: the schema has more than 1000 enum values"),
        ({"$ref": "#/nowhere"}, "there is nothing at #/nowhere"),
    ],
)
def test_a_schema_that_can_not_be_kept_to_is_refused_on_every_route(demo: Asker, schema: Any, complaint: str):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    bodies = {
        "/api/chat": {"messages": user("?"), "format": schema},
        "/api/generate": {"prompt": "?", "format": schema},
        "/v1/chat/completions": {"messages": user("?"), "response_format": form},
        "/v1/responses": {"input": "?", "text": {"format": {**form["json_schema"], "type": "json_schema"}}},
    }
    for path, body in bodies.items():
        refused = demo.post(path, **body)
        assert refused.status_code == 400
        assert complaint in refused.text


def test_a_token_that_a_grammar_rules_out_has_a_number_for_a_log_probability(demo: Asker):
    answer = ask(demo, {"enum": ["yes", "no"]}, 0, logprobs=True, top_logprobs=20)
    alternatives = [other["logprob"] for token in answer["logprobs"] for other in token["top_logprobs"]]
    choices = {"structured_outputs": {"choice": ["yes", "no"]}, "temperature": 0, "max_tokens": LIMIT}
    chat: dict[str, Any] = {
        "messages": user(QUESTION),
        "reasoning_effort": "none",
        "logprobs": True,
        "top_logprobs": 20,
    }
    told = demo.post("/v1/chat/completions", **chat, **choices).json()["choices"][0]["logprobs"]["content"]
    alternatives += [other["logprob"] for token in told for other in token["top_logprobs"]]
    listed = demo.post("/v1/completions", prompt=QUESTION, logprobs=5, **choices).json()["choices"][0]["logprobs"]
    alternatives += [number for token in listed["top_logprobs"] for number in token.values()]
    alternatives += listed["token_logprobs"]
    assert len(alternatives) > 40
    assert all(isinstance(number, (int, float)) and -9999 <= number <= 0 for number in alternatives)


def test_with_a_schema_and_tools_the_answer_is_a_call_or_fits_the_schema(demo: Asker):
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    kinds = set()
    for question in ("What is 1234 plus 5678?", "Who are you?"):
        answer = demo.chat(question, format=schema, tools=[ADD], options={"temperature": 0, "num_predict": LIMIT})
        message = answer["message"]
        if message.get("tool_calls"):
            assert (message["tool_calls"][0]["function"]["name"], message["content"]) == ("add", "")
        elif answer["done_reason"] == "stop":
            assert isinstance(json.loads(message["content"])["sum"], int)
        kinds.add("call" if message.get("tool_calls") else "text")
    assert kinds
