from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.errors import BadRequest, EngineFailure
from service.protocol.events import Delta, Event, Finished, Located, TokenLogprob
from service.protocol.request import Chat, Image, Message, Request, Sampling
from service.web.framing import encode

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


# --- what comes in ---------------------------------------------------------------------------------------


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
        ({"messages": [{"role": "user", "content": ["a"]}]}, "invalid message format"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "invalid message format"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "invalid message format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "invalid message format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x/y.png"}]}]},
         "image URLs are not currently supported, please use base64 encoded data instead"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:a/b;base64,aaaa"}]}]},
         "invalid image input"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:;base64,!"}]}]},
         "invalid image input"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]},
         "invalid tool call arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "[]"}}]}]},
         "invalid tool call arguments"),
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
        ({"reasoning_effort": "huge"}, 'invalid reasoning value: "huge" (must be "minimal", "low", "medium", "high", '
         '"xhigh", "ultra", "max", or "none")'),
        ({"response_format": {"type": "xml"}}, 'response_format.type must be "text", "json_object" or "json_schema"'),
        ({"response_format": {"type": "json_schema", "json_schema": {}}},
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


# --- what goes out ---------------------------------------------------------------------------------------


def answer(**fields: Any) -> ChatAnswer:
    return ChatAnswer(parse_chat(body(**fields)), now=lambda: 1000.5)


def told(events: list[Event], **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, as a client reads them."""
    batches = answer(stream=True, **fields).records([[Located(1, "", 0)], events])
    return [json.loads(encode(record)) for batch in batches for record in batch]


def deltas(events: list[Event], **fields: Any) -> list[dict[str, Any]]:
    """The chunks' deltas; a chunk's finish_reason stands in its place."""
    choices = [chunk["choices"][0] for chunk in told(events, **fields)]
    return [choice["delta"] or choice["finish_reason"] for choice in choices]


def collected(events: list[Event], **fields: Any) -> dict[str, Any]:
    whole = answer(**fields)
    record: dict[str, Any] = json.loads(encode(whole.collect(whole.records([events]))))
    return record


def say(text: str = "", index: int = 0, **fields: Any) -> Delta:
    return Delta(1, 0, text, [1], index=index, **fields)


def end(reason: str = "stop", index: int = 0) -> Finished:
    return Finished(1, reason, 3, 2, 1, 0, 0, 0, index=index, thinking_tokens=1)


CALLS = [{"id": "call_x", "function": {"index": 4, "name": "f", "arguments": {"z": 1, "a": "<&>"}}}]
SAID_CALL = {
    "id": "call_x",
    "index": 0,
    "type": "function",
    "function": {"name": "f", "arguments": '{"z":1,"a":"<&>"}'},
}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def test_a_stream_is_what_ollama_writes():
    chunks = told([say("Hi"), end()], stream_options={"include_usage": True})
    identity = chunks[0]["id"]
    head = {"id": identity, "object": "chat.completion.chunk", "created": 1000, "model": "demo",
            "system_fingerprint": "fp_ollama"}  # fmt: skip
    role = {"role": "assistant", "content": "Hi"}
    assert chunks == [
        {**head, "choices": [{"index": 0, "delta": role, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": USAGE},
    ]
    assert identity.startswith("chatcmpl-")


def test_the_keys_of_a_chunk_are_in_ollamas_order():
    first = encode(next(answer(stream=True).records([[say("Hi")]]))[0]).decode()
    assert first.endswith(
        '"object":"chat.completion.chunk","created":1000,"model":"demo","system_fingerprint":"fp_ollama",'
        '"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}'
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([say("a"), say("b"), end("length")], [{"role": "assistant", "content": "a"}, {"content": "b"}, "length"]),
        ([end()], [{"role": "assistant", "content": ""}, "stop"]),
        ([say(), say(), end()], [{"role": "assistant", "content": ""}, "stop"]),
        ([say("a", thinking="hm"), end()],
         [{"role": "assistant", "content": "", "reasoning": "hm", "reasoning_content": "hm"},
          {"content": "a"}, "stop"]),
        ([say("a", tool_calls=CALLS), end()],
         [{"role": "assistant", "content": "a"}, {"content": "", "tool_calls": [SAID_CALL]}, "tool_calls"]),
        ([say(tool_calls=CALLS), end("length")],
         [{"role": "assistant", "content": "", "tool_calls": [SAID_CALL]}, "length"]),
        ([say(tool_calls=CALLS), say(tool_calls=CALLS), end()],
         [{"role": "assistant", "content": "", "tool_calls": [SAID_CALL]},
          {"content": "", "tool_calls": [{**SAID_CALL, "index": 1}]}, "tool_calls"]),
    ],
)  # fmt: skip
def test_each_event_has_its_chunks(events: list[Event], expected: list[Any]):
    assert deltas(events) == expected


def test_two_answers_have_a_role_and_an_end_each():
    events = [say("a", 0), say("b", 1), end("stop", 1), say("c", 0), end("length", 0)]
    chunks = told(events, n=2, stream_options={"include_usage": True})
    choices = [(each["index"], each["delta"].get("role"), each["finish_reason"])
               for chunk in chunks for each in chunk["choices"]]  # fmt: skip
    assert choices == [
        (0, "assistant", None), (1, "assistant", None), (1, None, "stop"), (0, None, None), (0, None, "length"),
    ]  # fmt: skip
    assert (chunks[-1]["usage"]["prompt_tokens"], chunks[-1]["usage"]["completion_tokens"]) == (3, 4)


def test_collected_it_is_one_completion():
    whole = collected([say(thinking="hm"), say("a"), say("b", tool_calls=CALLS), end()])
    message = {"role": "assistant", "content": "ab", "reasoning": "hm", "reasoning_content": "hm",
               "tool_calls": [SAID_CALL]}  # fmt: skip
    assert whole["object"] == "chat.completion"
    assert whole["choices"] == [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    assert whole["usage"] == USAGE


def test_collected_choices_are_in_order_whoever_ends_first():
    whole = collected([say("b", 1), end("stop", 1), say("a", 0), end("stop", 0)], n=2)
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["a", "b"]


def test_logprobs_go_with_their_text():
    token = TokenLogprob("a", -0.5, [97], [TokenLogprob("b", -1.0, [98])])
    expected = {"token": "a", "logprob": -0.5, "bytes": [97],
                "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [98]}]}  # fmt: skip
    chunk = told([say("a", logprobs=[token])])[0]
    assert chunk["choices"][0]["logprobs"] == {"content": [expected], "refusal": None}
    whole = collected([say("a", logprobs=[token]), say("a", logprobs=[token]), end()], logprobs=True)
    assert whole["choices"][0]["logprobs"]["content"] == [expected, expected]


def test_a_model_that_embeds_is_refused():
    with pytest.raises(BadRequest, match='"demo" does not support chat'):
        told([Located(1, "", 0, ["embedding"])])


def test_silence_stays_an_empty_batch():
    assert list(answer(stream=True).records([[Located(1, "", 0)], [], []])) == [[], []]


def test_a_failure_is_told_as_openai_tells_it():
    failure = msgspec.to_builtins(answer().failure(EngineFailure("oh")))
    assert failure == {"error": {"message": "oh", "type": "api_error", "param": None, "code": None}}
