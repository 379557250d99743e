from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.dialects.anthropic.request import parse_messages
from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions import CompletionAnswer, parse_completion
from service.dialects.openai.embeddings import parse_embeddings
from service.dialects.openai.responses_request import parse_responses
from service.dialects.vllm_fields import CHAT, ROUTES, Treatment, VllmField, table
from service.errors import BadRequest
from service.protocol.events import Delta
from service.protocol.request import Constraint, Request

SAID = [{"role": "user", "content": "hi"}]
PARSERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "/v1/chat/completions": (parse_chat, {"messages": SAID}),
    "/v1/completions": (parse_completion, {"prompt": "hi"}),
    "/v1/responses": (parse_responses, {"input": "hi"}),
    "/v1/messages": (parse_messages, {"messages": SAID, "max_tokens": 9}),
    "/v1/embeddings": (parse_embeddings, {"input": "hi"}),
}
REFUSED = [
    (route, name, field)
    for route, fields in ROUTES.items()
    for name, field in fields.items()
    if field.treatment is Treatment.REFUSED
]


def parsed(route: str, **fields: Any) -> Any:
    parse, body = PARSERS[route]
    return parse({"model": "x", **body, **fields})


def parsed_request(route: str, **fields: Any) -> Request:
    call = parsed(route, **fields)
    (request,) = getattr(call, "requests", None) or [call.request]
    return request


def refusal(route: str, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parsed(route, **fields)
    return caught.value


@pytest.mark.parametrize(("route", "name", "field"), REFUSED)
def test_a_field_that_can_not_be_honoured_is_refused_by_its_name(route: str, name: str, field: VllmField):
    error = refusal(route, **{name: "something"})
    assert error.message.startswith(f"{name} is not supported: ")
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(("route", "name", "field"), REFUSED)
def test_a_value_that_asks_for_nothing_is_accepted(route: str, name: str, field: VllmField):
    for value in (None, *field.harmless):
        assert parsed(route, **{name: value})


@pytest.mark.parametrize("route", ["/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("name", [name for name, field in CHAT.items() if field.treatment is not Treatment.NO_EFFECT])
def test_a_field_of_chat_that_would_change_an_answer_is_in_the_table_of_the_other_routes(route: str, name: str):
    # The id of an answer is not its meaning, and the others are the routes' own.
    own = {
        "/v1/responses": ("max_output_tokens", "input", "prompt", "previous_response_id", "text", "instructions"),
        "/v1/messages": ("stop_sequences", "system", "output_config", "output_format"),
    }
    assert name in ROUTES[route] or name in ("request_id", "top_k", *own[route])


@pytest.mark.parametrize(
    ("route", "fields", "instead"),
    [
        ("/v1/responses", {"response_format": {"type": "json_object"}}, "use text.format"),
        ("/v1/responses", {"max_tokens": 5}, "use max_output_tokens"),
        ("/v1/responses", {"reasoning_effort": "low"}, "use reasoning.effort"),
        ("/v1/messages", {"response_format": {"type": "json_object"}}, "use output_config.format"),
        ("/v1/messages", {"structured_outputs": {"choice": ["a"]}}, "use output_config.format"),
        ("/v1/messages", {"stop": ["a"]}, "use stop_sequences"),
        ("/v1/messages", {"max_completion_tokens": 5}, "use max_tokens"),
        ("/v1/messages", {"reasoning_effort": "low"}, "use output_config.effort"),
        ("/v1/messages", {"n": 2}, "a message is one answer"),
        ("/v1/messages", {"seed": 0}, "this route has no such field"),
        ("/v1/chat/completions", {"max_output_tokens": 5}, "use max_completion_tokens"),
        ("/v1/chat/completions", {"stop_sequences": ["a"]}, "use stop"),
        ("/v1/completions", {"messages": SAID}, "send a prompt; this route has no chat template"),
        ("/v1/completions", {"top_logprobs": 5}, "use logprobs, which is a number here"),
    ],
)
def test_the_refusal_of_another_routes_field_names_this_routes_own(route: str, fields: dict[str, Any], instead: str):
    assert refusal(route, **fields).message.endswith(instead)


@pytest.mark.parametrize("route", ROUTES)
def test_a_field_that_nobody_knows_is_ignored(route: str):
    assert parsed(route, field_of_next_year={"a": 1})


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_the_thinking_is_switched_by_an_argument_of_the_template(route: str, name: str):
    request = parsed_request(route, chat_template_kwargs={name: False})
    assert (request.prompt.think, request.prompt.template_arguments) == (False, {})
    assert parsed_request(route, chat_template_kwargs={"custom": 1}).prompt.template_arguments == {"custom": 1}
    assert refusal(route, chat_template_kwargs={"tools": []}).param == "chat_template_kwargs.tools"
    assert "must be true or false" in refusal(route, chat_template_kwargs={name: "no"}).message


SCHEMA = {"type": "object"}


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({"structured_outputs": {"json": SCHEMA}}, SCHEMA),
        ({"structured_outputs": {"json": '{"type":"object"}'}}, SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json"),
        ({"guided_json": SCHEMA}, SCHEMA),
        ({"structured_outputs": {}}, None),
    ],
)
def test_vllms_json_constraints_shape_the_answer(route: str, fields: dict[str, Any], format: Any):
    assert parsed_request(route, **fields).format == format


GENERATING = ["/v1/chat/completions", "/v1/completions", "/v1/responses"]


@pytest.mark.parametrize("route", GENERATING)
@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"structured_outputs": {"regex": "a+"}}, Constraint(regex="a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Constraint(choice=["a", "b"])),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Constraint(grammar='root ::= "a"')),
        ({"structured_outputs": {"structural_tag": "{}"}}, Constraint(structural_tag="{}")),
        ({"guided_regex": "a+"}, Constraint(regex="a+")),
        ({"guided_choice": ["a"]}, Constraint(choice=["a"])),
        ({"guided_grammar": "a"}, Constraint(grammar="a")),
    ],
)
def test_vllms_other_constraints_shape_the_answer(route: str, fields: dict[str, Any], constraint: Constraint):
    request = parsed_request(route, **fields)
    assert (request.format, request.constraint) == (None, constraint)


@pytest.mark.parametrize("route", GENERATING)
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json must be a JSON schema"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice must not be empty"),
        ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice must not be empty"),
        ({"guided_regex": ""}, "guided_regex must not be empty"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern is not supported"),
        ({"structured_outputs": {"regexp": "a+"}}, "structured_outputs.regexp is not supported"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "can't go with another format"),
        ({"guided_regex": "a", "guided_json": {"type": "object"}}, "can't go with another format"),
    ],
)
def test_a_constraint_that_is_none_is_refused_and_never_dropped(route: str, fields: dict[str, Any], text: str):
    assert text in refusal(route, **fields).message


@pytest.mark.parametrize("route", GENERATING)
def test_vllms_sampling_parameters_reach_the_engine(route: str):
    fields = {
        "bad_words": ["a"], "allowed_token_ids": [1, 2], "include_stop_str_in_output": True,
        "skip_special_tokens": False, "spaces_between_special_tokens": False, "thinking_token_budget": 5,
    }  # fmt: skip
    sampling = parsed_request(route, **fields).sampling
    assert {name: getattr(sampling, name) for name in fields} == fields
    unset = dict.fromkeys(fields) | {"skip_special_tokens": True, "thinking_token_budget": -1}
    sampling = parsed_request(route, **unset).sampling
    assert {getattr(sampling, name) for name in fields} == {None}


@pytest.mark.parametrize("route", GENERATING[:2])
@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, (None, False)),
        ({"truncate_prompt_tokens": 5}, (5, False)),
        ({"truncate_prompt_tokens": -1, "truncation_side": "right"}, (-1, True)),
    ],
)
def test_a_prompt_is_cut_on_the_side_that_is_asked_for(route: str, fields: dict[str, Any], kept: tuple[Any, bool]):
    request = parsed_request(route, **fields)
    assert (request.prompt_tokens, request.keep_start) == kept
    assert refusal(route, truncate_prompt_tokens=0).param == "truncate_prompt_tokens"
    assert refusal(route, truncation_side="middle").param == "truncation_side"


def test_an_answer_continues_the_last_message():
    route = "/v1/chat/completions"
    chat = parsed_request(route, continue_final_message=True, documents=[{"title": "t"}]).prompt
    assert (chat.continue_final, chat.add_generation_prompt) == (True, False)
    assert chat.template_arguments == {"documents": [{"title": "t"}]}
    assert parsed_request(route).prompt.add_generation_prompt is True
    assert parsed_request(route, add_generation_prompt=False).prompt.add_generation_prompt is False
    both = {"continue_final_message": True, "add_generation_prompt": True}
    assert refusal(route, **both).param == "continue_final_message"


def test_two_formats_are_refused():
    both = {"response_format": {"type": "json_object"}, "structured_outputs": {"json": SCHEMA}}
    assert "can't go with another format" in refusal("/v1/chat/completions", **both).message


def test_thinking_is_not_sent_where_it_is_not_wanted():
    answer = ChatAnswer(parsed("/v1/chat/completions", include_reasoning=False))
    (batch,) = answer.records([[Delta(1, 0, "a", [1], thinking="hm")]])
    assert [(choice.delta.content, choice.delta.reasoning) for record in batch for choice in record.choices] == [
        ("a", batch[0].choices[0].delta.reasoning)
    ]
    assert not batch[0].choices[0].delta.reasoning


def test_the_answers_id_ends_with_the_clients():
    (batch,) = ChatAnswer(parsed("/v1/chat/completions", request_id="r-1")).records([[Delta(1, 0, "a", [1])]])
    assert batch[0].id == "chatcmpl-r-1"
    (batch,) = CompletionAnswer(parsed("/v1/completions", request_id="r-1")).records([[Delta(1, 0, "a", [1])]])
    assert batch[0].id == "cmpl-r-1"
    assert refusal("/v1/completions", request_id="a b").param == "request_id"


@pytest.mark.parametrize(("kept", "limit"), [(5, 5), (-1, None), (None, None)])
def test_so_many_tokens_of_a_text_are_embedded(kept: int | None, limit: int | None):
    assert parsed("/v1/embeddings", truncate_prompt_tokens=kept).request.truncate == (kept is not None)
    assert parsed("/v1/embeddings", truncate_prompt_tokens=kept).request.context_limit == limit
    assert refusal("/v1/embeddings", truncate_prompt_tokens=0).param == "truncate_prompt_tokens"


def test_the_documented_table_has_every_field_once():
    rows = table()
    assert [row[0] for row in rows] == sorted({name for route in ROUTES.values() for name in route})
    assert {len(row) for row in rows} == {len(ROUTES) + 2}


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_ollamas_options_are_refused_if_they_would_change_the_answer(route: str):
    assert parsed(route, options={"num_ctx": 8192, "num_gpu": 1})
    assert refusal(route, options={"num_ctx": 8192, "temperature": 0}).param == "options"
