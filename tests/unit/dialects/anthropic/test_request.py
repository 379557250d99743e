from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.anthropic.answer import MessagesAnswer
from service.dialects.anthropic.request import parse_count_tokens, parse_messages
from service.dialects.count_answer import CountAnswer
from service.dialects.json_body import parse_json
from service.errors import BadRequest, ServiceError
from service.protocol.commands import Submit
from service.protocol.events import Event, Rendered
from service.protocol.request import Chat, Image, Message, Sampling
from service.protocol.wire import pack
from service.web.framing import encode
from tests.support import any_json

PNG = "iVBORw0KGgo="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
TOOL = {"name": "add", "description": "Add", "input_schema": {"type": "object"}}


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


def chat(content: Any = "hi", **fields: Any) -> Chat:
    prompt = parse_messages(body(content, **fields)).request.prompt
    assert isinstance(prompt, Chat)
    return prompt


def turns(*messages: dict[str, Any]) -> list[Message]:
    return chat(messages=list(messages)).messages


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_messages(body() | fields)
    return caught.value.message


def answer(*events: Event) -> list[dict[str, Any]]:
    call = parse_messages(body())
    return [record for batch in MessagesAnswer(call, "k").records([list(events)]) for record in batch]


def message(*events: Event) -> dict[str, Any]:
    collected: dict[str, Any] = MessagesAnswer(parse_messages(body()), "k").collect([answer(*events)])
    return collected


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "model is required"),
        ({"model": "x"}, "max_tokens is required and must be positive"),
        ({"model": "x", "max_tokens": -1}, "max_tokens is required and must be positive"),
        ({"model": "x", "max_tokens": 5}, "messages is required"),
        ({"model": "x", "max_tokens": 5, "messages": []}, "messages is required"),
    ],
)
def test_what_is_missing_is_told_in_ollamas_order_and_words(fields: dict[str, Any], text: str):
    with pytest.raises(BadRequest) as caught:
        parse_messages(fields)
    assert caught.value.message == text


@pytest.mark.parametrize(
    "fields", [{"thread": {"type": "continue", "previous_message_id": "msg_1"}}, {"compaction": {"instructions": "x"}}]
)
def test_what_only_anthropics_servers_have_is_refused(fields: dict[str, Any]):
    with pytest.raises(BadRequest, match=f"{next(iter(fields))} is not supported: this server"):
        parse_messages(body(**fields))


@pytest.mark.parametrize("fields", [{"thread": {"type": "create"}}, {"thread": None}, {"compaction": None}])
def test_what_asks_anthropics_servers_for_nothing_yet_is_accepted(fields: dict[str, Any]):
    assert parse_messages(body(**fields)).request


def test_no_tokens_may_be_asked_for_as_anthropic_lets_its_cache_be_filled():
    assert parse_messages(body(max_tokens=0)).request.sampling.max_tokens == 0


def test_a_string_is_a_text_and_texts_are_put_together_by_lines():
    assert turns({"role": "user", "content": "hi"}) == [Message("user", "hi")]
    texts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert turns({"role": "user", "content": texts}) == [Message("user", "one\ntwo")]


def test_images_stay_where_they_stood_among_the_texts():
    content = [{"type": "text", "text": "what is"}, IMAGE, {"type": "text", "text": "?"}]
    (turn,) = turns({"role": "user", "content": content})
    assert isinstance(turn.content, list)
    assert turn.content == ["what is", Image(b"\x89PNG\r\n\x1a\n"), "?"]


def test_system_blocks_are_one_message_without_claude_codes_changing_header():
    system = [{"type": "text", "text": "x-anthropic-billing-header: cch=1"}, {"type": "text", "text": "be brief"}]
    assert chat(system=system).messages[0] == Message("system", "be brief")
    assert chat(system="be brief").messages[0] == Message("system", "be brief")
    assert chat(system="").messages[0].role == "user"


def test_a_tool_use_and_its_result_are_a_call_and_a_message_of_the_tool():
    used = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "…"},
        {"type": "text", "text": "I add."},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
    ]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}, IMAGE]}
    call, told, asked = turns(
        {"role": "assistant", "content": used},
        {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
    )
    assert (call.role, call.content, call.thinking) == ("assistant", "I add.", "hm")
    assert call.tool_calls == [
        {"id": "t1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
    ]
    assert (told.role, told.tool_call_id, told.tool_name, told.text) == ("tool", "t1", "add", "2")
    assert len(told.images) == 1
    assert asked == Message("user", "so?")


def test_a_text_document_is_its_text_and_no_other_document_is_read():
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a b"}}
    assert turns({"role": "user", "content": [document]}) == [Message("user", "a b")]
    document["source"] = {"type": "base64", "media_type": "application/pdf", "data": PNG}
    assert refusal(messages=[{"role": "user", "content": [document]}]) == (
        'content block type "document" is not supported: messages[0].content[0] is not a plain text'
    )


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (
            {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}},
            "invalid image source type: url. Only base64 images are supported. (messages[0].content[0])",
        ),
        (
            {"type": "image", "source": {"type": "base64", "data": "%"}},
            "invalid base64 image data (messages[0].content[0])",
        ),
        ({"type": "video"}, 'content block type "video" is not supported: messages[0].content[0]'),
    ],
)
def test_what_a_model_can_not_read_is_refused(block: dict[str, Any], text: str):
    assert refusal(messages=[{"role": "user", "content": [block]}]) == text


def test_sampling_and_stops_take_effect():
    call = parse_messages(body(temperature=0.5, top_p=0.7, top_k=3, stop_sequences=["END"], stream=True))
    assert call.request.sampling == Sampling(temperature=0.5, top_p=0.7, top_k=3, stop=["END"], max_tokens=9)
    assert (call.stream, call.request.truncate) == (True, False)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "", True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", "", False)),
        ({"type": "any"}, ("required", "", True)),
        ({"type": "none"}, ("none", "", True)),
        ({"type": "tool", "name": "add"}, ("required", "add", True)),
    ],
)
def test_the_choice_of_tools(choice: dict[str, Any] | None, expected: tuple[str, str, bool]):
    prompt = chat(tools=[TOOL], tool_choice=choice)
    assert (prompt.tool_choice, prompt.forced_tool, prompt.parallel_tool_calls) == expected
    function = {"name": "add", "description": "Add", "parameters": {"type": "object"}}
    assert prompt.tools == [{"type": "function", "function": function}]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tool_choice": {"type": "any"}}, 'tool_choice "any" needs tools'),
        ({"tool_choice": {"type": "tool", "name": "f"}, "tools": [TOOL]}, 'tool_choice names "f"'),
        ({"tool_choice": {"type": "some"}}, 'invalid tool_choice type "some"'),
        ({"tool_choice": {"name": "f"}, "tools": [TOOL]}, 'invalid tool_choice type ""'),
        ({"output_config": {"format": {"schema": {"type": "object"}}}}, "output_config.format.type is required"),
        ({"tools": [{"input_schema": {}}]}, "tools[0]: name is required"),
        ({"thinking": {"type": "maybe"}}, 'invalid thinking type "maybe"'),
        ({"output_config": {"effort": "huge"}}, 'invalid effort "huge"'),
        ({"output_config": {"format": {"type": "xml"}}}, 'invalid output_config.format type "xml"'),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": 1}}},
            "format.schema must be a JSON schema",
        ),
        ({"output_format": {"type": "xml"}}, 'invalid output_format type "xml"'),
        ({"messages": [{"role": "tool", "content": "x"}]}, 'invalid role "tool"'),
        ({"messages": [{"role": "user", "content": 5}]}, "MessagesRequest.messages.content of type []ContentBlock"),
        ({"stop_sequences": "x"}, "MessagesRequest.stop_sequences of type []string"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(fields: dict[str, Any], text: str):
    assert text in refusal(**fields)


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "high"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, False),
    ],
)
def test_thinking_is_wished_for_and_never_insisted_on(fields: dict[str, Any], think: bool | str | None):
    prompt = chat(**fields)
    assert (prompt.think, prompt.must_think) == (think, False)


def test_a_tool_says_what_is_known_of_it():
    (tool,) = chat(tools=[{"name": "f", "input_schema": {}, "strict": True}]).tools
    assert tool["function"] == {"name": "f", "parameters": {}, "strict": True}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ({"type": "json_schema", "schema": {"type": "object"}}, {"type": "object"}),
        ({"type": "json_schema"}, "json"),
        (None, None),
    ],
)
def test_a_schema_for_the_output_has_two_places(format: Any, expected: Any):
    assert parse_messages(body(output_config={"format": format})).request.format == expected
    assert parse_messages(body(output_format=format)).request.format == expected


def test_counting_needs_no_max_tokens_and_generates_nothing():
    call = parse_count_tokens({"model": "x", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]})
    assert call.request.render_only
    (records,) = CountAnswer(call.model).records([[Rendered(1, "…", tokens=12)]])
    assert CountAnswer(call.model).collect([records]) == {"input_tokens": 12}


names = st.sampled_from(
    ["type", "role", "content", "text", "source", "id", "name", "input", "data", "format", "schema"]
)
kinds = st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "document", "base64", "user", "tool"])
values = any_json.values(names, kinds)
blocks = st.lists(st.dictionaries(names, kinds | values, max_size=4), max_size=3) | values
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.just(5)},
    optional={
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": blocks})
        )
        | values,
        "system": blocks,
        "tools": blocks,
        "tool_choice": values,
        "thinking": values,
        "output_config": values,
        "stop_sequences": values,
        "temperature": values,
        "stream": values,
    },
)


@given(bodies)
def test_a_body_is_read_or_refused_and_what_is_read_crosses_the_queue(fields: dict[str, Any]):
    try:
        call = parse_messages(parse_json(encode(fields), "anthropic.MessagesRequest"))
    except ServiceError:
        return
    assert pack(Submit(1, call.request))


@pytest.mark.parametrize("kind", ["image", "document"])
@pytest.mark.parametrize("in_a_turn", [False, True])
def test_an_image_in_a_system_prompt_is_refused_and_not_lost(kind: str, in_a_turn: bool) -> None:
    block = {"type": kind, "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}
    user = {"role": "user", "content": "hi"}
    turns = [user, {"role": "system", "content": [block]}] if in_a_turn else [user]
    body = {"model": "x", "max_tokens": 5, "messages": turns, **({} if in_a_turn else {"system": [block]})}
    with pytest.raises(BadRequest, match=rf"a system prompt is text; send a block of type \"{kind}\" in a message"):
        parse_messages(body)
