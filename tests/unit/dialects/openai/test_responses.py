from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.json_body import parse_json
from service.dialects.openai.responses_answer import ResponsesAnswer
from service.dialects.openai.responses_request import ResponsesCall, parse_responses
from service.dialects.openai.responses_stored import conversation, input_items
from service.errors import BadRequest, EngineGone, ServiceError, StoreFailure
from service.protocol.commands import Submit
from service.protocol.events import Delta, Event, Finished, Located, TokenLogprob
from service.protocol.request import Chat, Image, Message, Sampling
from service.protocol.wire import pack
from service.web.framing import encode

PNG = "iVBORw0KGgo="
FUNCTION = {"type": "function", "name": "add", "description": "Add", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
THOUGHT = {"type": "summary_text", "text": "hm"}
FINISHED = Finished(1, "stop", 7, 3, 5, 0, 0, 0, thinking_tokens=2)
CUT = Finished(1, "length", 7, 3, 5, 0, 0, 0)


def body(said: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "x", "input": said, **fields}


def chat(said: Any = "hi", **fields: Any) -> Chat:
    prompt = parse_responses(body(said, **fields)).request.prompt
    assert isinstance(prompt, Chat)
    return prompt


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_responses(body() | fields)
    return caught.value.message


def answering(**fields: Any) -> ResponsesAnswer:
    return ResponsesAnswer(parse_responses(body(**fields)), "k", lambda: 1000.5)


def answer(*events: Event, **fields: Any) -> list[dict[str, Any]]:
    return [record for batch in answering(**fields).records([list(events)]) for record in batch]


def delta(text: str = "", thinking: str = "", tool_calls: Any = (), logprobs: Any = ()) -> Delta:
    return Delta(1, 0, text, [1], thinking, list(tool_calls), list(logprobs))


def stored(call: ResponsesCall) -> dict[str, Any]:
    """What is stored of an answer to it that says "Hi"."""
    told: list[tuple[str, dict[str, Any]]] = []
    call.echo["store"] = True
    answering = ResponsesAnswer(call, "k", lambda: 1000.5, lambda *record: told.append(record))
    *_, last = [record for batch in answering.records([[delta("Hi"), FINISHED]]) for record in batch]
    ((name, record),) = told
    assert (name, record["response"]) == ("resp_k", last["response"])
    return record


# --- what comes in ---------------------------------------------------------------------------------------


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
        ([{"type": "nope"}], 'input[0]: unknown input item type: "nope"'),
        ([{"content": "x"}], "input[0]: input item missing required 'type' field"),
        ([{"role": "user", "content": [{"type": "x"}]}], "input[0]: content[0]: unknown content type: x"),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}],
            "input[0]: file inputs are not currently supported",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}],
            "input[0]: image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:text/html,x"}]}],
            "input[0]: invalid image input",
        ),
        (
            [{"role": "user", "content": "x"}, {"type": "function_call", "name": "f", "arguments": "{"}],
            "input[1]: failed to parse function call arguments: unexpected EOF",
        ),
        ([{"role": "robot", "content": "x"}], 'input[0]: invalid role "robot"'),
    ],
)
def test_an_input_that_is_none_is_refused_by_its_place(said: Any, text: str):
    assert refusal(input=said).startswith(text)


def test_state_that_would_be_openais_is_refused():
    assert refusal(conversation="c").startswith("conversation: this server knows no conversations")
    assert refusal(prompt={"id": "p"}).startswith("prompt: this server stores no prompts")
    assert refusal(background=True).startswith("background: this server runs nothing in the background")


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
    with pytest.raises(BadRequest, match=r"input\[1\]: unknown input item type"):
        parse_responses(body([{"role": "user", "content": "a"}, {"type": "nope"}]), [{"role": "user", "content": "b"}])


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
        ({"tools": [{"type": "web_search"}]}, 'tools: "web_search" is not supported'),
        ({"tools": [{"type": "custom", "name": "x"}]}, 'tools: "custom" is not supported'),
        ({"tools": [{"type": "function"}]}, "tools: name is required"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"tool_choice": "some"}, 'invalid tool_choice "some"'),
        ({"tool_choice": {"type": "mcp"}}, 'invalid tool_choice "mcp"'),
        ({"tool_choice": {"type": "function", "name": "f"}}, 'tool_choice names "f"'),
        ({"tool_choice": 5}, "ResponsesRequest.tool_choice.type of type string"),
        ({"reasoning": {"effort": "huge"}}, 'invalid reasoning value: "huge"'),
        ({"text": {"format": {"type": "xml"}}}, 'invalid text.format type "xml"'),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema must be a JSON schema"),
        ({"max_output_tokens": 0}, "max_output_tokens must be at least 1"),
        ({"truncation": "some"}, 'invalid truncation "some"'),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"stream": "yes"}, "ResponsesRequest.stream of type bool"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(fields: dict[str, Any], text: str):
    assert text in refusal(**fields)


# Any JSON at all where a request should be.
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
names = st.sampled_from(["type", "role", "content", "text", "output", "arguments", "name", "call_id", "format", "mode"])
kinds = st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "input_text", "user", "{}"])
values = st.recursive(
    scalars | kinds, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=9
)
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


# --- what goes out ---------------------------------------------------------------------------------------


def test_a_stream_has_openais_events_in_their_order_and_numbered():
    records = answer(Located(1, "s", 5), delta(thinking="hm"), delta("Hi"), delta(tool_calls=[CALL]), FINISHED)
    assert [record["type"].removeprefix("response.") for record in records] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [record["sequence_number"] for record in records] == list(range(len(records)))
    places = [record["output_index"] for record in records if "output_index" in record]
    assert places == [0] * 6 + [1] * 6 + [2] * 4


def test_the_last_record_holds_the_whole_response():
    response = answering().collect([answer(delta(thinking="hm"), delta("Hi"), delta(tool_calls=[CALL]), FINISHED)])
    assert (response["id"], response["object"], response["status"]) == ("resp_k", "response", "completed")
    assert (response["created_at"], response["completed_at"], response["error"]) == (1000, 1000, None)
    part = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    assert response["output"] == [
        {"id": "rs_k0", "type": "reasoning", "summary": [THOUGHT]},
        {"id": "msg_k1", "type": "message", "content": [part], "role": "assistant", "status": "completed"},
        {
            "id": "fc_k2", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "add",
            "arguments": '{"a":1}',
        },
    ]  # fmt: skip
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 5},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }


def test_an_answer_that_was_cut_off_is_incomplete():
    *_, item, last = answer(delta("Hi"), CUT)
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == item["item"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["completed_at"] is None


def test_an_answer_without_a_word_is_a_response_all_the_same():
    records = answer(Located(1, "s", 5), FINISHED)
    assert [record["type"] for record in records] == ["response.created", "response.in_progress", "response.completed"]
    assert records[-1]["response"]["output"] == []


def test_a_failure_ends_the_response_that_has_begun():
    failing = answering()
    begun = [record for batch in failing.records([[delta("Hi")]]) for record in batch]
    record = failing.failure(EngineGone("gone"))
    assert (record["type"], record["sequence_number"]) == ("response.failed", len(begun))
    assert (record["response"]["id"], record["response"]["status"]) == ("resp_k", "failed")
    assert record["response"]["error"] == {"code": "server_error", "message": "gone"}


def test_a_failure_before_the_response_is_an_error():
    record = answering().failure(BadRequest("no"))
    assert (record["type"], record["code"], record["message"]) == ("error", "invalid_prompt", "no")
    assert (record["sequence_number"], record["param"]) == (0, None)


def test_what_was_asked_is_repeated():
    asked = {"temperature": 0.5, "metadata": {"a": "b"}, "tools": [FUNCTION], "instructions": "be brief", "user": "u"}
    response = answer(FINISHED, **asked)[-1]["response"]
    assert {name: response[name] for name in asked} == asked
    assert (response["tool_choice"], response["truncation"], response["store"]) == ("auto", "disabled", False)
    assert response["text"] == {"format": {"type": "text"}}


def test_reasoning_can_be_taken_home_where_it_is_asked_for():
    events = [delta(thinking="hm"), FINISHED]
    assert "encrypted_content" not in answer(*events)[-1]["response"]["output"][0]
    included = answer(*events, include=["reasoning.encrypted_content"])[-1]["response"]["output"][0]
    assert included["encrypted_content"] == "hm"


def test_logprobs_go_with_the_text():
    token = TokenLogprob("Hi", -0.5, [72, 105], [TokenLogprob("Hi", -0.5)])
    records = answer(delta("Hi", logprobs=[token]), FINISHED)
    top = {"token": "Hi", "bytes": [], "logprob": -0.5, "top_logprobs": []}
    told = [{"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": [top]}]
    streamed = next(record for record in records if record["type"] == "response.output_text.delta")
    assert streamed["logprobs"] == records[-1]["response"]["output"][0]["content"][0]["logprobs"] == told


deltas = st.lists(
    st.builds(
        delta, text=st.text(max_size=3), thinking=st.text(max_size=3), tool_calls=st.lists(st.just(CALL), max_size=2)
    ),
    max_size=8,
)


@given(deltas)
def test_collecting_equals_streaming(events: list[Delta]):
    records = answer(*events, FINISHED)
    output = answering().collect([records])["output"]
    done = [record["item"] for record in records if record["type"] == "response.output_item.done"]
    assert output == done
    streamed = "".join(r["delta"] for r in records if r["type"] == "response.output_text.delta")
    assert streamed == "".join(part["text"] for item in output for part in item.get("content", []))
    assert streamed == "".join(event.text for event in events)
    thought = "".join(r["delta"] for r in records if r["type"] == "response.reasoning_summary_text.delta")
    assert thought == "".join(part["text"] for item in output for part in item.get("summary", []))
    assert len({item["id"] for item in output}) == len(output)


# --- what is stored --------------------------------------------------------------------------------------


def test_what_is_stored_is_all_that_was_said_in_openais_items():
    earlier = [{"id": "msg_x", "type": "message", "role": "user", "content": []}]
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "id": None},
        {"Type": "reasoning", "id": "rs", "summary": [THOUGHT]},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
    ]
    record = stored(parse_responses(body(said), earlier))
    assert record["input"] == [
        *earlier,
        {"id": "msg_ki0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"id": "msg_ki1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"id": "rs_ki2", "type": "reasoning", "summary": [THOUGHT]},
        {"id": "fco_ki3", "type": "function_call_output", "call_id": "c", "output": "2"},
    ]
    assert conversation(record) == record["input"] + record["response"]["output"]


def test_the_last_record_waits_for_the_store_and_a_store_that_fails_takes_its_place():
    def keep(*record: Any) -> None:
        raise StoreFailure("full")

    failing = ResponsesAnswer(parse_responses(body(store=True)), "k", keep=keep)
    batches = failing.records([[delta("Hi"), FINISHED]])
    before = next(batches)
    with pytest.raises(StoreFailure):
        next(batches)
    last = failing.failure(StoreFailure("full"))
    assert (before[-1]["type"], last["type"]) == ("response.output_item.done", "response.failed")
    assert (last["sequence_number"], last["response"]["status"]) == (len(before), "failed")


def test_a_response_that_nobody_wants_to_keep_is_not_stored():
    kept: list[Any] = []
    list(ResponsesAnswer(parse_responses(body()), "k", keep=lambda *record: kept.append(record)).records([[FINISHED]]))
    assert kept == []


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({}, "cba", False),
        ({"order": "asc"}, "abc", False),
        ({"limit": "2"}, "cb", True),
        ({"limit": "2", "after": "b"}, "a", False),
        ({"order": "asc", "limit": "1", "after": "a"}, "b", True),
        ({"after": "a"}, "", False),
    ],
)
def test_items_are_listed_page_by_page(query: dict[str, str], ids: str, more: bool):
    page = input_items({"input": [{"id": name} for name in "abc"]}, query)
    assert ("".join(item["id"] for item in page["data"]), page["has_more"]) == (ids, more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize("query", [{"order": "up"}, {"limit": "0"}, {"limit": "9" * 5000}, {"after": "z"}])
def test_a_page_that_cannot_be_is_refused(query: dict[str, str]):
    with pytest.raises(BadRequest, match=next(iter(query))):
        input_items({"input": []}, query)


def test_silence_passes_through():
    batches = list(answering().records([[Located(1, "s", 5)], [], [delta("a")]]))
    assert [bool(batch) for batch in batches] == [False, True]
