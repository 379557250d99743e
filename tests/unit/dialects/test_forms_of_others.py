"""Clients of several APIs write a tool, a schema or an image in another one's form. It is read, and never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.anthropic.answer import error_record as anthropic_record
from service.dialects.anthropic.request import parse_messages
from service.dialects.openai.answer import error_record as openai_record
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.responses_request import parse_responses
from service.errors import BadRequest
from service.protocol.request import Chat, Image, Request

USER = {"role": "user", "content": "hi"}
ROUTES: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (parse_chat, {"messages": [USER]}),
    "responses": (parse_responses, {"input": "hi"}),
    "messages": (parse_messages, {"messages": [USER], "max_tokens": 9}),
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NESTED = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
FLAT = {"type": "function", "name": "add", "parameters": SCHEMA}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def request(route: str, **fields: Any) -> Request:
    parse, required = ROUTES[route]
    call = parse({"model": "m", **required, **fields})
    (request,) = getattr(call, "requests", None) or [call.request]
    assert isinstance(request, Request)
    return request


def refusal(route: str, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        request(route, **fields)
    return refused.value


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("tool", [NESTED, FLAT, {**NESTED, "type": None}], ids=["nested", "flat", "null"])
def test_a_function_is_shown_to_the_model_in_any_form(route: str, tool: dict[str, Any]) -> None:
    prompt = request(route, tools=[tool]).prompt
    assert isinstance(prompt, Chat)
    assert [(each["function"]["name"], each["function"]["parameters"]) for each in prompt.tools] == [("add", SCHEMA)]


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_a_function_without_a_type_is_the_clients(route: str) -> None:
    prompt = request(route, tools=[{"name": "add", "parameters": SCHEMA}]).prompt
    assert isinstance(prompt, Chat)
    assert [each["function"]["name"] for each in prompt.tools] == ["add"]


@pytest.mark.parametrize("route", ["chat", "responses"])
@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_a_tool_choice_can_be_an_object(route: str, mode: str) -> None:
    prompt = request(route, tools=[NESTED], tool_choice={"type": mode}).prompt
    assert isinstance(prompt, Chat)
    assert (prompt.tool_choice, prompt.forced_tool) == (mode, "")


@pytest.mark.parametrize(
    ("route", "tools", "message", "param"),
    [
        ("chat", [{**NESTED, "function": {"name": "a", "parameters": "{}"}}],
         "tools[0].function.parameters must be an object", "tools[0].function.parameters"),
        ("chat", [NESTED, {**FLAT, "parameters": []}], "tools[1].parameters must be an object", "tools[1].parameters"),
        ("chat", [{**NESTED, "function": {"name": "a", "description": 5}}],
         "tools[0].function.description must be a string", "tools[0].function.description"),
        ("responses", [FLAT, {"type": "custom"}], "tools[1]: name is required", "tools[1].name"),
        ("responses", [{}], "tools[0]: name is required", "tools[0].name"),
        ("responses", [NESTED, {"type": "function", "function": {}}], "tools[1].function: name is required",
         "tools[1].function.name"),
        ("responses", [FLAT, {**FLAT, "parameters": "{}"}], "json: cannot unmarshal string into Go struct field "
         "ResponsesRequest.tools.parameters of type map[string]interface {}", "tools[1].parameters"),
        ("messages", [{"name": "a"}, {}], "tools[1]: name is required", "tools[1].name"),
        ("messages", [None], "json: cannot unmarshal null into Go struct field MessagesRequest.tools of type Tool",
         "tools[0]"),
    ],
)  # fmt: skip
def test_a_refused_tool_is_named_by_its_place(route: str, tools: list[Any], message: str, param: str) -> None:
    error = refusal(route, tools=tools)
    assert (error.message, error.param) == (message, param)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x00b"])
def test_a_name_that_a_call_can_not_hold_is_refused(route: str, name: str) -> None:
    error = refusal(route, tools=[{**NESTED, "function": {"name": name, "parameters": SCHEMA}}])
    assert ("has a quote, a backslash or a control character" in error.message, error.param) == (True, "tools")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["string", "array", ["string", "null"]])
def test_parameters_that_are_no_object_are_refused(route: str, kind: Any) -> None:
    error = refusal(route, tools=[{**NESTED, "function": {"name": "a", "parameters": {"type": kind}}}])
    assert ('must have the type "object"' in error.message, error.param, error.code) == (
        True, "tools", "invalid_function_parameters",
    )  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("parameters", [{}, {"type": None}, {"type": ["object", "null"]}, {"$ref": "#/$defs/a"}])
def test_other_parameters_are_taken(route: str, parameters: dict[str, Any]) -> None:
    prompt = request(route, tools=[{**NESTED, "function": {"name": "f.x-1_é", "parameters": parameters}}]).prompt
    assert isinstance(prompt, Chat)
    assert [each["function"]["parameters"] for each in prompt.tools] == [parameters]


@pytest.mark.parametrize(
    ("route", "field"),
    [("chat", "response_format"), ("responses", "text"), ("messages", "output_format"), ("messages", "output_config")],
)
@pytest.mark.parametrize("form", [{"schema": SCHEMA}, {"json_schema": {"name": "n", "schema": SCHEMA}}])
def test_a_schema_is_kept_to_in_any_place(route: str, field: str, form: dict[str, Any]) -> None:
    shape: dict[str, Any] = {"type": "json_schema", **form}
    wanted = {"format": shape} if field in ("text", "output_config") else shape
    assert request(route, **{field: wanted}).format == SCHEMA


@pytest.mark.parametrize(
    ("route", "fields", "place"),
    [
        ("chat", {"response_format": {"type": "json_schema", "schema": "{}"}}, "response_format.schema"),
        ("chat", {"response_format": {"type": "json_object", "schema": []}}, "response_format.schema"),
        ("responses", {"text": {"format": {"type": "json_schema", "json_schema": {"schema": True}}}},
         "text.format.json_schema.schema"),
        ("messages", {"output_config": {"format": {"type": "json_schema", "schema": 1}}},
         "output_config.format.schema"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_refused_with_its_place(route: str, fields: dict[str, Any], place: str) -> None:
    error = refusal(route, **fields)
    assert (error.message, error.param) == (f"{place} must be a JSON schema", place)


@pytest.mark.parametrize("url", ["data:image/png;base64," + PIXEL, {"url": "data:image/png;base64," + PIXEL}])
def test_an_image_of_a_response_can_be_an_object(url: Any) -> None:
    prompt = request("responses", input=[{"role": "user", "content": [{"type": "input_image", "image_url": url}]}])
    assert isinstance(prompt.prompt, Chat)
    assert [type(part) for part in prompt.prompt.messages[0].content] == [Image]


def test_the_place_of_an_image_that_is_none_is_named() -> None:
    part = {"type": "input_image", "image_url": 5}
    error = refusal("responses", input=[{"role": "user", "content": [{"type": "input_text", "text": "a"}, part]}])
    assert (error.param, error.code) == ("input[0].content[1].image_url", "invalid_type")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [USER, {"role": "user", "content": ["a"]}]}, "messages[1].content[0]"),
        ({"messages": [USER, {"role": "human", "content": "a"}]}, "messages[1].role"),
        ({"system": [{"type": "text", "text": "a"}, "b"]}, "system[1]"),
        ({"stop_sequences": ["a", 5]}, "stop_sequences[1]"),
        ({"tools": [{"name": "a", "input_schema": "{}"}]}, "tools[0].input_schema"),
    ],
)
def test_a_refusal_of_anthropics_route_has_the_place_in_its_words(fields: dict[str, Any], place: str) -> None:
    error = refusal("messages", **fields)
    assert anthropic_record(error)["error"]["message"] == f"{error.message} ({place})"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [USER, {"role": 5, "content": "a"}]}, "messages[1].role"),
        ({"messages": [USER, None]}, "messages[1]"),
        ({"bad_words": ["a", 5]}, "bad_words[1]"),
        ({"stop_token_ids": [1, "2"]}, "stop_token_ids[1]"),
    ],
)
def test_a_refusal_of_openais_route_has_the_place_as_its_parameter(fields: dict[str, Any], place: str) -> None:
    assert openai_record(refusal("chat", **fields))["error"]["param"] == place
