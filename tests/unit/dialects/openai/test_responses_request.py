from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.json_body import parse_json
from service.dialects.openai.responses_request import parse_responses
from service.errors import BadRequest, ServiceError
from service.protocol.commands import Submit
from service.protocol.request import Chat, Image, Message, Sampling
from service.protocol.wire import pack
from service.web.framing import encode
from tests.support import any_json
from tests.support.responses import FUNCTION, THOUGHT, body, chat, refusal, stored

PNG = "iVBORw0KGgo="


def test_a_string_is_what_the_user_says_below_the_instructions():
    assert chat("hi", instructions="be brief").messages == [Message("system", "be brief"), Message("user", "hi")]


def test_items_are_messages_with_or_without_a_type():
    items = [
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
        {"type": "web_search_call", "id": "w"},
        {"role": "user", "content": "so?"},
    ]
    assert chat(items, instructions="you are x").messages == [
        Message("system", "you are x\nbe brief"),
        Message("user", "hi"),
        Message("assistant", "yes"),
        Message("user", "so?"),
    ]


def test_what_the_model_gave_in_one_answer_is_one_message_again():
    items = [
        {"role": "user", "content": "1+1"},
        {"type": "reasoning", "id": "rs", "summary": [THOUGHT]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add."}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "3"}]},
    ]
    _, called, first, second = chat(items).messages
    assert (called.role, called.thinking, called.content) == ("assistant", "hm", "I add.")
    assert [call["function"]["arguments"] for call in called.tool_calls] == [{"a": 1}, {}]
    assert first == Message("tool", "2", tool_name="add", tool_call_id="c1")
    assert second == Message("tool", "3", tool_name="add", tool_call_id="c2")


@pytest.mark.parametrize(
    "fields",
    [
        {"encrypted_content": "hm", "summary": [{"type": "summary_text", "text": "short"}]},
        {"content": [{"type": "reasoning_text", "text": "hm"}], "summary": []},
        {"summary": [THOUGHT]},
    ],
)
def test_reasoning_comes_back_in_three_ways(fields: dict[str, Any]):
    items = [{"type": "reasoning", "id": "rs", **fields}, {"role": "user", "content": "so?"}]
    assert chat(items).messages[0] == Message("assistant", thinking="hm")


def test_images_stay_where_they_stood_among_the_texts():
    image = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"}
    parts = [{"type": "input_text", "text": "what is"}, image, {"type": "input_text", "text": "?"}]
    (turn,) = chat([{"role": "user", "content": parts}]).messages
    assert isinstance(turn.content, list)
    assert turn.content == ["what is", Image(b"\x89PNG\r\n\x1a\n"), "?"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (None, "input is required"),
        ([], "input is required"),
        (5, "input must be a string or array"),
        ([{"type": "nope"}], "input: none of its items has content that the model can read"),
        ([{"content": "x"}], "input[0]: input item missing required 'type' field"),
        ([{"role": "user", "content": [{"type": "x"}]}], "input[0]: content[0]: unknown content type: x"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0]: content[0].text is required"),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}],
            "input[0]: file inputs are not currently supported: content[0] is an input_file with a file",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}],
            "input[0]: image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:text/html,x"}]}],
            "input[0]: invalid image input",
        ),
        ([{"role": "robot", "content": "x"}], 'input[0]: invalid role "robot"'),
    ],
)
def test_an_input_that_is_none_is_refused_by_its_place(said: Any, text: str):
    assert refusal(input=said).startswith(text)


def test_state_that_would_be_openais_is_refused():
    assert refusal(conversation="c").startswith("conversation: this server keeps no conversations")
    assert refusal(prompt={"id": "p"}).startswith("prompt: this server stores no prompts")


def test_a_response_in_the_background_is_stored():
    call = parse_responses(body(background=True))
    assert (call.background, call.store, call.echo["background"]) == (True, True, True)
    assert not parse_responses(body(background=True), stores=False).store
    assert refusal(background=True, store=False).startswith("background: the response has to be stored")
    logprobs = refusal(background=True, include=["message.output_text.logprobs"])
    assert logprobs.startswith("background: it can't go with")


def test_a_response_is_to_be_stored_only_if_the_request_says_so():
    assert [parse_responses(body(store=store)).store for store in (True, False, None)] == [True, False, False]
    assert not parse_responses(body()).store


def test_a_server_that_stores_nothing_says_so():
    with pytest.raises(BadRequest, match="VLLM_WSGI_RESPONSES_DAYS is 0"):
        parse_responses(body(store=True), stores=False)
    assert not parse_responses(body(store=False), stores=False).store


def test_what_was_said_before_goes_between_the_instructions_and_the_input():
    earlier = [{"role": "user", "content": "1+1"}, {"type": "function_call", "call_id": "c1", "name": "add"}]
    said = [{"type": "function_call_output", "call_id": "c1", "output": "2"}]
    call = parse_responses(body(said, instructions="be brief", previous_response_id="resp_1"), earlier)
    assert isinstance(call.request.prompt, Chat)
    system, user, _, result = call.request.prompt.messages
    assert (system.content, user.content) == ("be brief", "1+1")
    assert result == Message("tool", "2", tool_name="add", tool_call_id="c1")
    assert call.echo["previous_response_id"] == "resp_1"


def test_a_bad_item_is_told_by_its_place_in_the_input_whatever_was_said_before():
    with pytest.raises(BadRequest, match=r"input\[1\]: invalid role"):
        parse_responses(body([{"role": "user", "content": "a"}, {"role": "x"}]), [{"role": "user", "content": "b"}])


def test_sampling_and_limits():
    request = parse_responses(body(temperature=0.5, top_p=0.7, max_output_tokens=9, truncation="auto")).request
    assert request.sampling == Sampling(temperature=0.5, top_p=0.7, max_tokens=9)
    assert request.truncate
    assert not parse_responses(body()).request.truncate
    assert parse_responses(body()).request.defaults == Sampling(temperature=1.0, top_p=1.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "name": "n", "schema": {"type": "object"}}, {"type": "object"}),
        ({"type": "json_schema", "name": "n"}, "json"),
        ({"type": "json_schema", "name": "n", "schema": {}}, "json"),
    ],
)
def test_the_format_of_the_text(fields: dict[str, Any], expected: Any):
    assert parse_responses(body(text={"format": fields})).request.format == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "", 1)),
        ("none", ("none", "", 1)),
        ("required", ("required", "", 1)),
        ({"type": "function", "name": "add"}, ("required", "add", 1)),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]}, ("auto", "", 1)),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, ("auto", "", 0)),
    ],
)
def test_the_choice_of_tools(choice: Any, expected: tuple[str, str, int]):
    prompt = chat(tools=[FUNCTION], tool_choice=choice, parallel_tool_calls=False)
    assert (prompt.tool_choice, prompt.forced_tool, len(prompt.tools)) == expected
    assert not prompt.parallel_tool_calls


@pytest.mark.parametrize(
    ("effort", "think"), [(None, None), ("none", False), ("minimal", "low"), ("medium", "medium"), ("xhigh", "max")]
)
def test_the_effort_is_wished_for_and_never_insisted_on(effort: str | None, think: bool | str | None):
    prompt = chat(reasoning={"effort": effort, "summary": "auto"})
    assert (prompt.think, prompt.must_think) == (think, False)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "model is required"),
        ({"tools": [{"type": "custom"}]}, "tools[0]: name is required"),
        ({"tools": [{"type": "function"}]}, "tools[0]: name is required"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tool_choice": "some"}, 'invalid tool_choice "some"'),
        ({"tool_choice": {"type": "mcp"}}, 'invalid tool_choice "mcp"'),
        ({"tool_choice": {"type": "function", "name": "f"}}, 'tool_choice names "f"'),
        ({"tool_choice": 5}, "ResponsesRequest.tool_choice.type of type string"),
        ({"reasoning": {"effort": "huge"}}, 'invalid reasoning value: "huge"'),
        ({"text": {"format": {"type": "xml"}}}, 'invalid text.format type "xml"'),
        ({"text": {"format": {"type": "json_schema", "schema": True}}}, "text.format.schema must be a JSON schema"),
        ({"max_output_tokens": 0}, "max_output_tokens must be at least 1"),
        ({"truncation": "some"}, 'invalid truncation "some"'),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"stream": "yes"}, "ResponsesRequest.stream of type bool"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(fields: dict[str, Any], text: str):
    assert text in refusal(**fields)


names = st.sampled_from(["type", "role", "content", "text", "output", "arguments", "name", "call_id", "format", "mode"])
kinds = st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "input_text", "user", "{}"])
values = any_json.values(names, kinds)
bodies = st.fixed_dictionaries(
    {"model": st.just("m")},
    optional={
        "input": st.lists(st.dictionaries(names, kinds | values, max_size=4), max_size=3) | values,
        "instructions": values,
        "tools": st.lists(st.dictionaries(names, kinds | values, max_size=4), max_size=2) | values,
        "tool_choice": values,
        "reasoning": values,
        "text": values,
        "include": values,
        "metadata": values,
        "stream": values,
    },
)


@given(bodies)
def test_a_body_is_read_or_refused_and_what_is_read_crosses_the_queue(fields: dict[str, Any]):
    try:
        call = parse_responses(parse_json(encode(fields), "openai.ResponsesRequest"))
    except ServiceError:
        return
    assert pack(Submit(1, call.request))
    assert encode(call.echo)
    assert encode(stored(call))
