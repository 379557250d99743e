from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.dialects.ollama.request import OllamaCall, parse_chat, parse_generate, parse_show
from service.errors import BadRequest, ModelNotFound
from service.protocol.request import Chat, Image, Infill, Message, Sampling, Text
from service.web.framing import Framing
from service.web.negotiation import negotiate

Parse = Callable[[dict[str, Any]], OllamaCall]
GENERATE, CHAT = {"model": "x", "prompt": "hi"}, {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
TOOL_CALL = {"id": "call_x", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": "<&>"}}}
BOTH = pytest.mark.parametrize(("parse", "body"), [(parse_generate, GENERATE), (parse_chat, CHAT)])


def refusal(parse: Parse, body: dict[str, Any]) -> str:
    with pytest.raises(BadRequest) as caught:
        parse(body)
    return caught.value.message


def negotiated(call: OllamaCall) -> Framing | None:
    return negotiate(call.stream, call.stream_type, None, "")


def test_a_prompt_is_one_turn_of_a_chat():
    call = parse_generate(GENERATE | {"system": "be brief", "context": [1, 2.0], "think": "low"})
    turns = [Message("system", "be brief"), Message("user", "hi")]
    assert call.request is not None
    assert call.request.prompt == Chat(turns, think="low", context=[1, 2])
    assert call.request.return_context


def test_a_raw_prompt_is_left_as_it_is_and_its_tokens_are_not_returned():
    request = parse_generate(GENERATE | {"raw": True}).request
    assert request is not None
    assert (request.prompt, request.return_context) == (Text("hi"), False)


def test_images_come_before_the_text_that_they_came_with():
    generate = parse_generate(GENERATE | {"images": ["QQ==", None, "Qg=="]}).request
    turns = [{"role": "user", "content": "hi", "images": ["QQ=="]}, {"role": "tool", "images": ["Qg=="]}]
    chat = parse_chat(CHAT | {"messages": turns}).request
    assert generate is not None
    assert chat is not None
    assert generate.prompt == Chat([Message("user", [Image(b"A"), Image(b"B"), "hi"])])
    assert chat.prompt == Chat([Message("user", [Image(b"A"), "hi"]), Message("tool", [Image(b"B")])])


def test_a_prompt_with_a_suffix_is_to_be_filled_in_between():
    request = parse_generate(GENERATE | {"suffix": "there"}).request
    assert request is not None
    assert request.prompt == Infill("hi", "there")


def test_a_chat_keeps_its_turns_and_tools():
    tools = [{"type": "function", "function": {"name": "f"}}]
    turns = [
        {"role": "USER", "content": "hi"},
        {"role": "assistant", "thinking": "hm", "tool_calls": [TOOL_CALL]},
        {"role": "tool", "content": "7", "tool_name": "f", "tool_call_id": "call_x"},
    ]
    request = parse_chat({"model": "x", "messages": turns, "tools": tools, "think": True}).request
    assert request is not None
    assert isinstance(request.prompt, Chat)
    assert (request.prompt.tools, request.prompt.think) == (tools, True)
    user, assistant, tool = request.prompt.messages
    assert user == Message("user", "hi")
    assert (assistant.thinking, assistant.tool_calls[0]["id"]) == ("hm", "call_x")
    assert assistant.tool_calls[0]["function"]["arguments"] == {"z": 1, "a": "<&>"}
    assert tool == Message("tool", "7", tool_name="f", tool_call_id="call_x")


@BOTH
def test_what_both_routes_read_alike(parse: Parse, body: dict[str, Any]):
    fields = {"options": {"top_k": 5, "num_ctx": 512}, "format": {"type": "object"}, "truncate": False}
    call = parse(body | fields | {"keep_alive": "5m", "stream": "sse", "stream_type": "text/event-stream"})
    assert call.request is not None
    assert (call.request.sampling, call.request.context_limit) == (Sampling(top_k=5), 512)
    assert call.request.defaults == Sampling(temperature=0.8, top_k=40, top_p=0.9)
    assert (call.request.format, call.request.truncate) == ({"type": "object"}, False)
    assert (call.keep_alive, call.stream, call.stream_type) == (300, "sse", "text/event-stream")


@BOTH
@pytest.mark.parametrize("name", ["StreamType", "streamType", "streamtype", "STREAM_TYPE"])
def test_the_stream_type_has_two_spellings(parse: Parse, body: dict[str, Any], name: str):
    assert parse(body | {name: "text/event-stream"}).stream_type == "text/event-stream"


@BOTH
def test_two_spellings_that_contradict_each_other_are_refused(parse: Parse, body: dict[str, Any]):
    both = {"stream_type": "text/event-stream", "StreamType": "application/x-ndjson"}
    with pytest.raises(BadRequest):
        negotiated(parse(body | both))


@BOTH
def test_the_model_is_echoed_as_it_was_asked_for(parse: Parse, body: dict[str, Any]):
    assert parse(body | {"model": "Library/X:Latest"}).model == "Library/X:Latest"


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (parse_generate, {"model": "x"}),
        (parse_generate, {"model": "x", "prompt": ""}),
        (parse_generate, {"model": "x", "suffix": "there"}),
        (parse_chat, {"model": "x"}),
        (parse_chat, {"model": "x", "messages": []}),
    ],
)
def test_a_body_that_asks_for_nothing_loads_the_model_or_unloads_it(parse: Parse, body: dict[str, Any]):
    assert [parse(body).request, parse(body).unload] == [None, False]
    assert [parse(body | {"keep_alive": time}).unload for time in (0, "0", "0s", 1, -1)] == [True] * 3 + [False] * 2


@BOTH
def test_a_body_that_asks_for_an_answer_never_unloads_first(parse: Parse, body: dict[str, Any]):
    assert not parse(body | {"keep_alive": 0}).unload


def test_without_a_model_generate_does_not_find_it_and_chat_misses_it():
    with pytest.raises(ModelNotFound, match=r"^model '' not found$"):
        parse_generate({"prompt": "hi"})
    assert refusal(parse_chat, {"messages": []}) == "model is required"


@BOTH
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "a b"}, "invalid model name"),
        ({"model": 1}, "json: cannot unmarshal number into Go struct field {}.model of type string"),
        (
            {"options": []},
            "json: cannot unmarshal array into Go struct field {}.options of type map[string]interface {}",
        ),
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"stop": "x"}}, 'option "stop" must be of type array'),
        ({"truncate": "no"}, "json: cannot unmarshal string into Go struct field {}.truncate of type bool"),
        ({"format": "xml"}, r'invalid format: "\"xml\""; expected "json" or a valid JSON Schema object'),
        ({"format": [1]}, 'invalid format: "[1]"; expected "json" or a valid JSON Schema object'),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": "5"}, "json: cannot unmarshal string into Go struct field {}.top_logprobs of type int"),
        ({"keep_alive": "5"}, 'time: missing unit in duration "5"'),
        (
            {"think": "extreme"},
            'invalid think value: "extreme" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ({"think": ""}, 'invalid think value: "" (must be "high", "medium", "low", "max", true, or false)'),
        ({"think": 1}, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_a_bad_field_is_refused_in_ollamas_words(
    parse: Parse, body: dict[str, Any], fields: dict[str, Any], message: str
):
    struct = "GenerateRequest" if parse is parse_generate else "ChatRequest"
    assert refusal(parse, body | fields) == message.replace("{}.", f"{struct}.")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "template": "x"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"raw": 1}, "json: cannot unmarshal number into Go struct field GenerateRequest.raw of type bool"),
        ({"prompt": 1}, "json: cannot unmarshal number into Go struct field GenerateRequest.prompt of type string"),
        ({"images": ["data:,"]}, "illegal base64 data at input byte 4"),
        (
            {"images": "QQ=="},
            "json: cannot unmarshal string into Go struct field GenerateRequest.images of type []api.ImageData",
        ),
        (
            {"images": [1]},
            "json: cannot unmarshal number into Go struct field GenerateRequest.images of type api.ImageData",
        ),
        *(
            (
                {"images": ["QQ=="], **fields},
                "images can't go with raw, suffix or template: the model's own template has to place them",
            )
            for fields in ({"raw": True}, {"suffix": "x"}, {"template": "x"})
        ),
        ({"context": "1"}, "json: cannot unmarshal string into Go struct field GenerateRequest.context of type []int"),
        ({"context": ["1"]}, "json: cannot unmarshal string into Go struct field GenerateRequest.context of type int"),
    ],
)
def test_a_bad_field_of_generate_is_refused_in_ollamas_words(fields: dict[str, Any], message: str):
    assert refusal(parse_generate, GENERATE | fields) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": {}}, "cannot unmarshal object into Go struct field ChatRequest.messages of type []api.Message"),
        ({"messages": ["x"]}, "cannot unmarshal string into Go struct field ChatRequest.messages of type api.Alias"),
        (
            {"messages": [{"role": 1}]},
            "cannot unmarshal number into Go struct field ChatRequest.messages.role of type string",
        ),
        (
            {"messages": [{"content": [{"type": "text"}]}]},
            "cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
        ),
        (
            {"messages": [{"tool_calls": {}}]},
            "cannot unmarshal object into Go struct field ChatRequest.messages.tool_calls of type []api.ToolCall",
        ),
        (
            {"messages": [{"tool_calls": [{"id": 1}]}]},
            "cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls.id of type string",
        ),
        (
            {"messages": [{"images": [{}]}]},
            "cannot unmarshal object into Go struct field ChatRequest.messages.images of type api.ImageData",
        ),
        ({"tools": {}}, "cannot unmarshal object into Go struct field ChatRequest.tools of type api.Tools"),
    ],
)
def test_a_bad_field_of_chat_is_refused_in_ollamas_words(fields: dict[str, Any], message: str):
    assert refusal(parse_chat, CHAT | fields) == f"json: {message}"


def test_the_arguments_of_a_tool_call_are_an_object():
    turn = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}
    message = "Value looks like object, but can't find closing '}' symbol"
    assert refusal(parse_chat, {"model": "x", "messages": [turn]}) == message


@pytest.mark.parametrize("name", ["model", "name"])
def test_a_model_to_show_has_two_spellings(name: str):
    assert parse_show({name: "m:t"})[1].short == "m:t"


def test_model_wins_over_name():
    assert parse_show({"name": "a", "model": "b"})[0] == "b"
