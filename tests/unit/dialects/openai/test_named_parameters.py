"""The client's mistakes on OpenAI's routes: `param` names the parameter, and `code` says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.answer import error_record
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions import parse_completion
from service.dialects.openai.embeddings import parse_embeddings
from service.dialects.openai.responses_request import parse_responses
from service.errors import (
    BadRequest,
    ClientTooSlow,
    HTTPRefusal,
    ModelNotFound,
    PayloadTooLarge,
    ResponseNotFound,
    ServiceError,
    UnsupportedCoding,
)

USER = {"role": "user", "content": "a"}
ROUTES: dict[str, Any] = {
    "chat": (parse_chat, {"messages": [USER]}),
    "completions": (parse_completion, {"prompt": "a"}),
    "responses": (parse_responses, {"input": "a"}),
    "embeddings": (parse_embeddings, {"input": "a"}),
}
ADD = {"type": "function", "function": {"name": "add"}, "name": "add"}
PARTS = [{"type": "text", "text": "a"}, {"type": "video_url"}]
PICTURE = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]


def error(route: str, **fields: Any) -> dict[str, Any]:
    parse, body = ROUTES[route]
    with pytest.raises(BadRequest) as refused:
        parse({"model": "m", **body, **fields})
    return dict(error_record(refused.value)["error"])


@pytest.mark.parametrize("route", ["chat", "completions", "responses"])
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": 1.1}, "top_p", "invalid_value"),
        ({"presence_penalty": -3}, "presence_penalty", "invalid_value"),
        ({"seed": "x"}, "seed", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value"),
        ({"priority": 5}, "priority", "unsupported_parameter"),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", "unsupported_parameter"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "invalid_value"),
        ({"guided_json": '{"a": [' + "{}," * 400_000 + "{}]}"}, "guided_json", "string_above_max_length"),
    ],
)
def test_a_parameter_of_every_route_is_named(route: str, fields: dict[str, Any], param: str, code: str) -> None:
    named = error(route, **fields)
    assert (named["type"], named["param"], named["code"]) == ("invalid_request_error", param, code)


@pytest.mark.parametrize(
    ("route", "fields", "param", "code"),
    [
        ("chat", {"n": 0}, "n", "invalid_value"),
        ("chat", {"n": 129}, "n", "invalid_value"),
        ("chat", {"max_tokens": 0}, "max_tokens", "invalid_value"),
        ("chat", {"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ("chat", {"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ("chat", {"top_logprobs": 3, "logprobs": False}, "top_logprobs", "invalid_value"),
        ("chat", {"resumable": -1}, "resumable", "invalid_value"),
        ("chat", {"reasoning_effort": "x"}, "reasoning_effort", "invalid_value"),
        ("chat", {"reasoning": {"effort": "x"}}, "reasoning.effort", "invalid_value"),
        ("responses", {"reasoning": {"effort": "x"}}, "reasoning.effort", "invalid_value"),
        ("chat", {"messages": [{"role": "user", "content": PARTS}]}, "messages[0].content[1]", "invalid_value"),
        ("chat", {"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content[0]", "invalid_value"),
        ("chat", {"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_value"),
        ("chat", {"tools": [ADD, 1]}, "tools[1]", "invalid_value"),
        ("chat", {"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ("chat", {"response_format": {"type": "x"}}, "response_format.type", "invalid_value"),
        ("chat", {"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        ("chat", {"function_call": {"name": "f"}}, "function_call", "unsupported_parameter"),
        ("chat", {"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ("completions", {"prompt": 5}, "prompt", "invalid_value"),
        ("completions", {"logprobs": 99}, "logprobs", "invalid_value"),
        ("completions", {"best_of": 2}, "best_of", "unsupported_parameter"),
        ("completions", {"n": 2, "best_of": 1}, "best_of", "invalid_value"),
        ("responses", {"input": 5}, "input", "invalid_type"),
        ("responses", {"input": []}, "input", "invalid_value"),
        (
            "responses",
            {"input": [USER, {"role": "user", "content": [{"type": "x"}]}]},
            "input[1].content[0]",
            "invalid_value",
        ),
        (
            "responses",
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
        ("responses", {"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ("responses", {"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ("responses", {"conversation": "c"}, "conversation", "unsupported_parameter"),
        ("responses", {"truncation": "x"}, "truncation", "invalid_value"),
        ("responses", {"tools": [ADD], "tool_choice": "x"}, "tool_choice", "invalid_value"),
        ("responses", {"text": {"format": {"type": "x"}}}, "text.format.type", "invalid_value"),
        (
            "responses",
            {"text": {"format": {"name": "a", "schema": {"type": "object"}}}},
            "text.format.type",
            "missing_required_parameter",
        ),
        (
            "chat",
            {"response_format": {"json_schema": {"schema": {"type": "object"}}}},
            "response_format.type",
            "missing_required_parameter",
        ),
        (
            "completions",
            {"response_format": {"schema": {"type": "object"}}},
            "response_format.type",
            "missing_required_parameter",
        ),
        ("responses", {"tools": [ADD], "tool_choice": {"name": "add"}}, "tool_choice", "invalid_value"),
        ("responses", {"tools": [ADD], "tool_choice": {"mode": "required"}}, "tool_choice", "invalid_value"),
        ("responses", {"user": 5}, "user", "invalid_type"),
        ("responses", {"metadata": {"a": 1}}, "metadata", "invalid_type"),
        ("embeddings", {"input": [5]}, "input", "invalid_value"),
        ("embeddings", {"dimensions": "x"}, "dimensions", "invalid_type"),
    ],
)
def test_a_parameter_of_one_route_is_named(route: str, fields: dict[str, Any], param: str, code: str) -> None:
    named = error(route, **fields)
    assert (named["param"], named["code"]) == (param, code)


@pytest.mark.parametrize(
    ("route", "fields"),
    [("chat", {"messages": []}), ("chat", {"model": ""}), ("embeddings", {"encoding_format": "hex"})],
)
def test_ollamas_own_refusals_stay_as_they_are(route: str, fields: dict[str, Any]) -> None:
    named = error(route, **fields)
    assert (named["param"], named["code"]) == (None, None)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (HTTPRefusal("x"), "unknown_url"),
        (HTTPRefusal("x", status=405), "method_not_supported"),
        (HTTPRefusal("x", status=403), "permission_denied"),
        (HTTPRefusal("x", status=400), None),
        (ClientTooSlow("x"), "request_timeout"),
        (PayloadTooLarge("x"), "request_too_large"),
        (UnsupportedCoding("x"), "unsupported_content_type"),
        (ModelNotFound("x"), "model_not_found"),
        (ResponseNotFound("x"), None),
    ],
)
def test_a_refusal_that_is_not_about_a_parameter_has_a_code(refusal: ServiceError, code: str | None) -> None:
    named = error_record(refusal)["error"]
    assert (named["param"], named["code"]) == (None, code)


@pytest.mark.parametrize("fields", [{"functions": []}, {"function_call": "auto"}, {"modalities": ["text"]}])
def test_what_asks_for_nothing_older_is_accepted(fields: dict[str, Any]) -> None:
    assert parse_chat({"model": "m", "messages": [USER], **fields})
