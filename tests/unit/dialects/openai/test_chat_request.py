from __future__ import annotations

import base64
from typing import Any

import pytest

from service.dialects.openai.chat_request import parse_chat
from service.errors import BadRequest
from service.protocol.request import Chat, Image, Message, Request, Sampling

USER = {"role": "user", "content": "a"}
PICTURE = "data:image/png;base64," + base64.b64encode(b"png").decode()
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
GO = "json: cannot unmarshal"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [USER], **fields}


def request(**fields: Any) -> Request:
    (request,) = parse_chat(body(**fields)).requests
    return request


def chat(**fields: Any) -> Chat:
    prompt = request(**fields).prompt
    assert isinstance(prompt, Chat)
    return prompt


def message(**fields: Any) -> Message:
    return chat(messages=[{"role": "user", **fields}]).messages[-1]


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"presence_penalty": -2, "frequency_penalty": 2}, {"presence_penalty": -2, "frequency_penalty": 2}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "", "y"]}, {"stop": ["x", "y"]}),
        ({"stop": []}, {}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": 2**63 - 1}),
        ({"logit_bias": {"7": -100, "8": 0.5}}, {"logit_bias": {7: -100.0, 8: 0.5}}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1}, {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1}),
        ({"min_tokens": 2, "stop_token_ids": [4], "ignore_eos": True},
         {"min_tokens": 2, "stop_token_ids": [4], "ignore_eos": True}),
        ({"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "unknown": 1}, {}),
    ],
)  # fmt: skip
def test_parameters_become_sampling(fields: dict[str, Any], sampling: dict[str, Any]):
    assert request(**fields).sampling == Sampling(**sampling)


def test_openais_defaults_lie_beneath_the_models_own():
    assert request().defaults == Sampling(temperature=1.0, top_p=1.0)


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({}, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}, "json"),
        ({"type": "json_object", "schema": {"type": "object"}}, {"type": "object"}),
    ],
)
def test_a_response_format_is_json_or_a_schema(fields: dict[str, Any], format: Any):
    assert request(response_format=fields).format == format


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "high"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_effort_decides_about_thinking(fields: dict[str, Any], think: Any):
    assert chat(**fields).think == think


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "")),
        ("auto", ("auto", "")),
        ("none", ("none", "")),
        ("required", ("required", "")),
        ({"type": "function", "function": {"name": "weather"}}, ("required", "weather")),
    ],
)
def test_a_tool_choice_is_a_word_or_a_name(choice: Any, expected: tuple[str, str]):
    parsed = chat(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)
    assert (parsed.tool_choice, parsed.forced_tool) == expected
    assert parsed.tools == [WEATHER]
    assert not parsed.parallel_tool_calls


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a", "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": "a"}], [Image(b"png"), "a"]),
        ([{"type": "image_url", "image_url": PICTURE.replace("image/png", "")}], [Image(b"png")]),
    ],
)
def test_content_is_a_text_or_parts_in_their_order(content: Any, expected: Any):
    assert message(content=content).content == expected


def test_a_tools_answer_is_named_after_the_call_that_it_answers():
    history = [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "4", "tool_call_id": "call_1"}]
    called, answered = chat(messages=history).messages
    assert called.tool_calls[0]["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    assert (answered.tool_name, answered.tool_call_id) == ("weather", "call_1")


def test_a_developer_is_the_system_and_reasoning_is_kept():
    assert message(role="developer", content="a").role == "system"
    assert message(role="assistant", content=None, reasoning_content="hm").thinking == "hm"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "model is required"),
        ({"model": "a b"}, "invalid model name"),
        ({"messages": []}, "[] is too short - 'messages'"),
        ({"messages": None}, "[] is too short - 'messages'"),
        ({"messages": "a"},
         f"{GO} string into Go struct field ChatCompletionRequest.messages of type []openai.Message"),
        ({"messages": [{"role": "user", "content": 1}]}, "invalid message content type: float64"),
        ({"messages": [{"role": "user"}]}, "invalid message content type: <nil>"),
        ({"messages": [{"role": "user", "content": [5]}]},
         "invalid message format: messages[0].content[0] is a float64; it must be an object with a type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "video_url"}]}]},
         "invalid message format: messages[0].content[1] has the type 'video_url'; "
         '"text" and "image_url" are supported'),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
         'invalid message format: messages[0].content[0] has the type "text" and no text'),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "invalid message format: messages[0].content[0].image_url has no url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x/y.png"}]}]},
         "image URLs are not currently supported, please use base64 encoded data instead"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:a/b;base64,aaaa"}]}]},
         "invalid image input"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:;base64,!"}]}]},
         "invalid image input"),
        ({"temperature": "hot"}, f"{GO} string into Go struct field ChatCompletionRequest.temperature of type float64"),
        ({"temperature": 2.1}, "temperature must be between 0 and 2"),
        ({"top_p": -1}, "top_p must be between 0 and 1"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_completion_tokens": 1.5},
         f"{GO} number 1.5 into Go struct field ChatCompletionRequest.max_completion_tokens of type int"),
        ({"n": 0}, "n must be at least 1"),
        ({"n": 129}, "n must be between 1 and 128"),
        ({"stop": [1]}, "invalid type for 'stop' field: float64"),
        ({"stop": {"a": 1}}, "invalid type for 'stop' field: map[string]interface {}"),
        ({"logit_bias": {"a": 1}}, "logit_bias must map token ids to numbers"),
        ({"logit_bias": {"1": 101}}, "logit_bias must be between -100 and 100"),
        ({"logit_bias": {"9" * 400: 1}}, "logit_bias must map token ids to numbers"),
        ({"stream": "yes"}, f"{GO} string into Go struct field ChatCompletionRequest.stream of type bool"),
        ({"stream_options": {"include_usage": 1}},
         f"{GO} number into Go struct field ChatCompletionRequest.stream_options.include_usage of type bool"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"n": 128, "logprobs": True, "top_logprobs": 4}, "n times top_logprobs must be at most 400"),
        ({"reasoning_effort": "huge"}, 'invalid reasoning value: "huge" (must be "minimal", "low", "medium", "high", '
         '"xhigh", "ultra", "max", or "none")'),
        ({"response_format": {"type": "xml"}}, 'response_format.type must be "text", "json_object" or "json_schema"'),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
         "response_format.json_schema.schema must be a JSON schema"),
        ({"tools": [{"type": "custom"}]}, "tools[0] must be a function with a name"),
        ({"tools": [WEATHER, 1]}, "tools[1] must be a function with a name"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tool_choice": "maybe"}, 'tool_choice must be "none", "auto", "required" or a named function'),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
         "tool_choice names a tool that is not in tools: other"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], text: str):
    with pytest.raises(BadRequest) as refused:
        parse_chat(body(**fields))
    assert refused.value.message == text
