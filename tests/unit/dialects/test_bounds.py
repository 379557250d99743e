"""How much of each kind a body may bring. What is over a bound is a 400 that names it, before anything is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.bounds import (
    MAX_ALLOWED_IDS,
    MAX_BAD_WORD_CHARACTERS,
    MAX_BAD_WORDS,
    MAX_BIASES,
    MAX_FILES,
    MAX_OPTIONS,
    MAX_REPEATED_BYTES,
    MAX_SCHEMA_BYTES,
    MAX_STOP_CHARACTERS,
    MAX_STOP_IDS,
    MAX_STOPS,
    MAX_TOOLS_BYTES,
    Bounds,
)
from service.errors import BadRequest
from service.protocol.request import Chat, Constraint, Image, Message, Request, Sampling, Text

BOUNDS = Bounds(messages=3, tools=2, images=4)
LONG = "x" * (MAX_STOP_CHARACTERS + 1)


def images(*counts: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "", "images": ["aa"] * count} for count in counts]


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("messages", lambda count: [{}] * count, 3),
        ("input", lambda count: ["a"] * count, 3),
        ("tools", lambda count: [{}] * count, 2),
        ("images", lambda count: ["aa"] * count, 4),
        ("stop", lambda count: ["a"] * count, MAX_STOPS),
        ("stop_sequences", lambda count: ["a"] * count, MAX_STOPS),
        ("logit_bias", lambda count: dict.fromkeys(map(str, range(count)), 1), MAX_BIASES),
        ("stop_token_ids", lambda count: [1] * count, MAX_STOP_IDS),
        ("allowed_token_ids", lambda count: [1] * count, MAX_ALLOWED_IDS),
        ("bad_words", lambda count: ["a"] * count, MAX_BAD_WORDS),
        ("options", lambda count: dict.fromkeys(map(str, range(count)), 1), MAX_OPTIONS),
        ("parameters", lambda count: dict.fromkeys(map(str, range(count)), 1), MAX_OPTIONS),
        ("files", lambda count: dict.fromkeys(map(str, range(count)), "a"), MAX_FILES),
    ],
)
def test_a_field_may_hold_so_many_values_and_not_one_more(field: str, value: Any, most: int):
    BOUNDS.check_body({field: value(most)})
    with pytest.raises(BadRequest, match=f"{field} may hold at most {most} values, and holds {most + 1}") as refused:
        BOUNDS.check_body({field.upper(): value(most + 1)})
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"options": {"stop": ["a"] * (MAX_STOPS + 1)}}, "options.stop may hold at most 128 values"),
        ({"parameters": {"stop": ["a"] * (MAX_STOPS + 1)}}, "parameters.stop may hold at most 128 values"),
        ({"options": {"stop": LONG}}, "options.stop may have at most 1024 characters, and has 1025"),
        ({"stop": LONG}, "stop may have at most 1024 characters"),
        ({"stop_sequences": ["a", LONG]}, "stop_sequences may have at most 1024 characters"),
        ({"bad_words": ["x" * MAX_BAD_WORD_CHARACTERS, "x"]}, "bad_words may have at most 16384 characters together"),
        ({"messages": images(2, 3)}, "may have at most 4 images, and this one has 5"),
    ],
)
def test_what_is_too_long_or_too_many_together_is_named(body: dict[str, Any], sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        BOUNDS.check_body(body)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request("m", Text("a"), format={"enum": ["x" * MAX_SCHEMA_BYTES]}), "the JSON schema may have at most"),
        (Request("m", Text("a"), constraint=Constraint(regex="x" * MAX_SCHEMA_BYTES)), "the constraint may have at"),
        (
            Request("m", Text("a"), Sampling(stop=["x" * 1024]), n=129),
            "may have at most 131072 characters, and have 132096",
        ),
        (Request("m", Chat([Message("user")] * 4)), "messages may hold at most 3 values, and holds 4"),
        (Request("m", Chat([Message("user", [Image(b"a")] * 5)])), "at most 4 images, and this one has 5"),
        (Request("m", Chat([], tools=[{"name": "x" * MAX_TOOLS_BYTES}])), "tools may have at most"),
    ],
)
def test_what_is_parsed_is_checked_for_what_no_single_field_shows(request_: Request, sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        BOUNDS.check_requests([Request("m", Text("a")), request_])


@pytest.mark.parametrize(
    ("shared", "answers", "fits"),
    [
        ({"sampling": Sampling(allowed_token_ids=[300] * MAX_ALLOWED_IDS)}, 42, True),
        ({"sampling": Sampling(allowed_token_ids=[300] * MAX_ALLOWED_IDS)}, 43, False),
        ({"format": {"enum": ["x" * 1000] * 1000}}, 17, False),
        ({"constraint": Constraint(choice=["x" * 1000] * 1000)}, 17, False),
        ({"sampling": Sampling(logit_bias=dict.fromkeys(range(1000), 1.0))}, 1024, True),
    ],
)
def test_what_a_call_repeats_for_each_answer_is_bounded_with_prompts_and_with_n(
    shared: dict[str, Any], answers: int, fits: bool
):
    refused = f"times the {answers} answers, may have at most {MAX_REPEATED_BYTES} bytes, and have"
    for requests in ([Request("m", Text("a"), n=answers, **shared)], [Request("m", Text("a"), **shared)] * answers):
        if fits:
            BOUNDS.check_requests(requests)
            continue
        with pytest.raises(BadRequest, match=refused):
            BOUNDS.check_requests(requests)


NAMESPACES = [{"type": "namespace", "name": "a", "tools": [{"name": "b"}, {"name": "c"}]}]


@pytest.mark.parametrize(
    ("body", "field", "count"),
    [
        ({"tools": NAMESPACES}, "tools", 3),
        ({"tools": [{"TOOLS": [{"Tools": [1]}]}]}, "tools", 3),
        ({"tools": [{}], "input": [{"type": "additional_tools", "Tools": [{}]}, {"tools": [{}]}]}, "tools", 3),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{}] * 5}}, "tool_choice", 5),
    ],
)
def test_tools_in_namespaces_and_items_count_and_so_do_those_of_a_choice(body: dict[str, Any], field: str, count: int):
    with pytest.raises(BadRequest, match=f"{field} may hold at most 2 values, and holds {count}") as refused:
        BOUNDS.check_body(body)
    assert refused.value.param == field
    Bounds(tools=count).check_body(body)
    Bounds(tools=0).check_body(body)


def test_a_body_within_the_bounds_or_of_the_wrong_types_passes():
    BOUNDS.check_body({"messages": images(4), "tools": [{}], "options": {"stop": ["a"]}, "stop": "a", "input": "a" * 9})
    BOUNDS.check_body(
        {"messages": {"a": 1}, "options": [], "bad_words": 5, "stop": [5], "images": "a", "logit_bias": 1}
    )
    BOUNDS.check_body({"messages": [1, {"images": 5}]})
    BOUNDS.check_requests([Request("m", Chat([Message("user", [Image(b"a")] * 4)], tools=[{}]), format="json")])


def test_a_bound_of_0_is_no_limit():
    none = Bounds(messages=0, tools=0, images=0)
    none.check_body({"messages": images(9, 9), "tools": [{}] * 9, "input": ["a"] * 9})
    none.check_requests([Request("m", Chat([Message("user", [Image(b"a")] * 9)] * 9))])


@pytest.mark.parametrize("field", ["stop", "logit_bias", "bad_words", "stop_token_ids", "messages"])
def test_a_null_under_the_same_name_in_other_letters_hides_no_value(field: str):
    values = dict.fromkeys(map(str, range(9_000)), 1) if field == "logit_bias" else ["1"] * 9_000
    with pytest.raises(BadRequest, match=f"{field} may hold at most"):
        BOUNDS.check_body({field: values, field.upper(): None})


CALLS = {
    "messages": lambda text: [{"role": "assistant", "tool_calls": [{"function": {"arguments": text}}] * 2}],
    "input": lambda text: [{"type": "function_call", "ARGUMENTS": text}, {"type": "tool_search_call", "input": text}],
}


@pytest.mark.parametrize("field", CALLS)
@pytest.mark.parametrize("value", ["{}", "1,1,1,1,1,1,1,1,1,1"])
def test_the_arguments_of_all_calls_may_have_as_many_values_as_a_body(field: str, value: str):
    count = 21_000 if value == "{}" else 26_000
    text = f' {{"a": [{",".join([value] * count)}]}}'
    BOUNDS.check_body({field: CALLS[field](text)[:1] if field == "input" else CALLS[field]("{}")})
    with pytest.raises(BadRequest, match="the arguments of the calls have too many values"):
        BOUNDS.check_body({field: CALLS[field](text)})


def test_what_is_no_json_or_stands_in_a_text_of_the_arguments_is_not_counted():
    patch, text = "*** Begin Patch {" * 50_000, '{"code": "' + "{,:" * 200_000 + '"}'
    BOUNDS.check_body({"input": [{"type": "custom_tool_call", "input": patch}, {"arguments": text}]})


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        (dict.fromkeys(map(str, range(17)), "a"), "metadata may hold at most 16 values"),
        ({"a": "b" * 513}, "a text in metadata may have at most 512 characters, and has 513"),
        ({"a" * 600: 5}, "a text in metadata may have at most 512 characters, and has 600"),
    ],
)
def test_metadata_is_bounded_as_by_openai(metadata: dict[str, Any], sentence: str):
    BOUNDS.check_body({"metadata": dict.fromkeys(map(str, range(16)), "a" * 512)})
    with pytest.raises(BadRequest, match=sentence):
        BOUNDS.check_body({"metadata": metadata})


@pytest.mark.parametrize(
    ("requests", "tokens"),
    [
        ([Request("m", Text("a"), logprobs=0)], 1000),
        ([Request("m", Text("a"), logprobs=4)], 200),
        ([Request("m", Text("a"), logprobs=4, n=5)], 40),
        ([Request("m", Text("a"), logprobs=4, n=5)] * 4, 10),
        ([Request("m", Text("a"), logprobs=4, n=128)] * 8, 1),
    ],
)
def test_all_log_probabilities_of_the_answers_of_a_call_count(requests: list[Request], tokens: int):
    assert Bounds(logprobs=1000).kept_tokens(requests, 0) == tokens
    assert Bounds(logprobs=1000).kept_tokens(requests, 7) == min(7, tokens)
    assert Bounds(logprobs=0).kept_tokens(requests, 7) == 7


@pytest.mark.parametrize(
    ("request_", "most", "tokens"),
    [
        (Request("m", Text("a"), Sampling(max_tokens=200), logprobs=4), 0, 200),
        (Request("m", Text("a"), Sampling(max_tokens=201), logprobs=4), 0, None),
        # Its key's limit is lower.
        (Request("m", Text("a"), Sampling(max_tokens=9999), logprobs=4), 150, 150),
        (Request("m", Text("a"), Sampling(max_tokens=9999)), 0, 0),
    ],
)
def test_a_request_for_more_log_probabilities_is_refused(request_: Request, most: int, tokens: int | None):
    if tokens is None:
        with pytest.raises(BadRequest, match="at most 200 tokens, and 201 are asked for: VLLM_WSGI_MAX_LOGPROBS"):
            Bounds(logprobs=1000).kept_tokens([request_], most)
    else:
        assert Bounds(logprobs=1000).kept_tokens([request_], most) == tokens


@pytest.mark.parametrize(
    ("requests", "tokens"),
    [
        ([Request("m", Text("a"), logprobs=4)], 200),
        ([Request("m", Text("a"), logprobs=4, n=5)] * 4, 10),
        ([Request("m", Text("a"), logprobs=4, n=128)] * 8, 1),
    ],
)
def test_all_log_probabilities_of_the_prompts_of_a_call_count(requests: list[Request], tokens: int):
    assert Bounds(prompt_logprobs=1000).scored_tokens(requests) == tokens
    assert Bounds(prompt_logprobs=0).scored_tokens(requests) == 0
