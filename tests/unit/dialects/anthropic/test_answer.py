from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.anthropic.answer import MessagesAnswer, error_record
from service.dialects.anthropic.request import MessagesCall, parse_messages
from service.dialects.count_answer import CountAnswer
from service.errors import (
    BadRequest,
    EngineGone,
    ModelNotFound,
    PayloadTooLarge,
    PromptTooLong,
    ServiceError,
    Unsupported,
)
from service.protocol.events import Delta, Event, Finished, Located
from service.protocol.request import Chat
from service.web.framing import SSE_PINGED

CALL = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
FINISHED = Finished(1, "stop", 7, 3, 5, 0, 0, 0)


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


def chat(content: Any = "hi", **fields: Any) -> Chat:
    prompt = parse_messages(body(content, **fields)).request.prompt
    assert isinstance(prompt, Chat)
    return prompt


def answer(*events: Event) -> list[dict[str, Any]]:
    call = parse_messages(body())
    return [record for batch in MessagesAnswer(call, "k").records([list(events)]) for record in batch]


def message(*events: Event) -> dict[str, Any]:
    collected: dict[str, Any] = MessagesAnswer(parse_messages(body()), "k").collect([answer(*events)])
    return collected


def delta(text: str = "", thinking: str = "", tool_calls: Any = (), prompt_tokens: int = 0) -> Delta:
    return Delta(1, 0, text, [1], thinking, list(tool_calls), prompt_tokens=prompt_tokens)


def test_a_stream_has_anthropics_events_in_their_order():
    records = answer(
        Located(1, "s", 5), delta(thinking="hm", prompt_tokens=7), delta("Hi"), delta(tool_calls=[CALL]), FINISHED
    )
    assert [record["type"].removeprefix("content_block_") for record in records] == [
        "message_start", "start", "delta", "delta", "stop", "start", "delta", "stop", "start", "delta", "stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert [record["index"] for record in records if "index" in record] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    deltas = [record["delta"] for record in records if record["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "msg_k"},
        {"type": "text_delta", "text": "Hi"},
        {"type": "input_json_delta", "partial_json": '{"a":1}'},
    ]


def test_the_start_tells_the_prompt_and_the_end_what_the_cache_had_of_it():
    start, *_, end, _ = answer(delta("Hi", prompt_tokens=7), FINISHED)
    assert start["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}
    assert end["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 5,
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 0},
    }


@pytest.mark.parametrize(
    ("events", "reason", "sequence"),
    [
        ([delta("a"), FINISHED], "end_turn", None),
        ([delta("a"), Finished(1, "length", 1, 9, 0, 0, 0, 0)], "max_tokens", None),
        ([delta("a"), Finished(1, "length", 1, 8, 0, 0, 0, 0)], "model_context_window_exceeded", None),
        ([delta("a"), Finished(1, "stop", 1, 1, 0, 0, 0, 0, stop="END")], "stop_sequence", "END"),
        ([delta(tool_calls=[CALL]), FINISHED], "tool_use", None),
        ([delta(tool_calls=[CALL]), Finished(1, "stop", 1, 1, 0, 0, 0, 0, stop="END")], "tool_use", None),
        ([delta(tool_calls=[CALL]), Finished(1, "length", 1, 9, 0, 0, 0, 0)], "max_tokens", None),
    ],
)
def test_the_reason_for_the_end(events: list[Event], reason: str, sequence: str | None):
    told = message(*events)
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize(
    ("limit_of_key", "tokens", "reason"),
    [(0, 9, "max_tokens"), (20, 9, "max_tokens"), (5, 5, "max_tokens"), (5, 4, "model_context_window_exceeded")],
)
def test_the_limit_of_the_key_is_no_full_context(limit_of_key: int, tokens: int, reason: str):
    told = MessagesAnswer(parse_messages(body()), most_tokens=limit_of_key)
    end = Finished(1, "length", 1, tokens, 0, 0, 0, 0)
    assert told.collect(told.records([[delta("a"), end]]))["stop_reason"] == reason


def test_without_tokens_a_message_is_empty_and_has_reached_its_limit():
    told = MessagesAnswer(parse_messages(body(max_tokens=0)))
    whole = told.collect(told.records([[Finished(1, "length", 7, 0, 0, 0, 0, 0)]]))
    assert (whole["content"], whole["stop_reason"], whole["usage"]["output_tokens"]) == ([], "max_tokens", 0)


def test_an_answer_without_a_word_is_a_message_all_the_same():
    told = message(Located(1, "s", 5), FINISHED)
    assert (told["content"], told["stop_reason"]) == ([], "end_turn")


def test_the_one_message_has_every_block():
    told = message(delta(thinking="hm"), delta("Hi "), delta("there"), delta(tool_calls=[CALL, CALL]), FINISHED)
    assert told["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "msg_k"},
        {"type": "text", "text": "Hi there"},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
    ]
    assert (told["id"], told["type"], told["role"], told["model"]) == ("msg_k", "message", "assistant", "x")


deltas = st.lists(
    st.builds(
        delta, text=st.text(max_size=3), thinking=st.text(max_size=3), tool_calls=st.lists(st.just(CALL), max_size=2)
    ),
    max_size=8,
)


@given(deltas)
def test_collecting_equals_streaming(events: list[Delta]):
    records = answer(*events, FINISHED)
    shown = [record["delta"] for record in records if record["type"] == "content_block_delta"]
    told = message(*events, FINISHED)["content"]
    for kind in ("text", "thinking"):
        streamed = "".join(each.get(kind, "") for each in shown)
        assert streamed == "".join(block.get(kind, "") for block in told) == "".join(getattr(e, kind) for e in events)
    assert sum(block["type"] == "tool_use" for block in told) == sum(len(event.tool_calls) for event in events)
    starts, stops = ([r["index"] for r in records if r["type"] == f"content_block_{end}"] for end in ("start", "stop"))
    assert starts == stops == list(range(len(told)))


def test_silence_passes_through_and_is_told_by_a_ping():
    call = parse_messages(body())
    batches = list(MessagesAnswer(call).records([[Located(1, "s", 5)], [], [delta("a")]]))
    assert [bool(batch) for batch in batches] == [False, True]
    assert SSE_PINGED.heartbeat == b'event: ping\ndata: {"type":"ping"}\n\n'


@pytest.mark.parametrize("kind", [MessagesAnswer, lambda call: CountAnswer(call.model)])
def test_a_model_that_only_embeds_does_not_chat(kind: Any):
    with pytest.raises(BadRequest, match='"x" does not support chat'):
        list(kind(parse_messages(body())).records([[Located(1, "s", 5, ["embedding"])]]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (ModelNotFound("x"), "not_found_error"),
        (PayloadTooLarge("x"), "request_too_large"),
        (EngineGone("x"), "overloaded_error"),
        (Unsupported("x"), "api_error"),
    ],
)
def test_an_error_has_anthropics_shape(error: ServiceError, kind: str):
    assert error_record(error) == {"type": "error", "error": {"type": kind, "message": "x"}}


def test_a_call_names_its_model_as_it_was_asked_for():
    assert isinstance(parse_messages(body(model="Library/X:Latest")), MessagesCall)
    assert parse_messages(body(model="Library/X:Latest")).model == "Library/X:Latest"


@pytest.mark.parametrize(("tokens", "limit", "maximum"), [(9000, 4096, 4096), (4096, 4096, 4095)])
def test_claude_code_reads_by_how_much_a_prompt_is_too_long(tokens: int, limit: int, maximum: int):
    """Claude Code compacts when it finds `/prompt is too long[^0-9]*(\\d+)\\s*tokens?\\s*>\\s*(\\d+)/i`."""
    error = error_record(PromptTooLong("p", tokens=tokens, limit=limit))["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"] == f"prompt is too long: {tokens} tokens > {maximum} maximum"


def test_omitted_thinking_leaves_a_block_with_its_signature():
    call = parse_messages(body(thinking={"type": "adaptive", "display": "omitted"}))
    events = [delta(thinking="hm"), delta(thinking=" so"), delta("a"), FINISHED]
    whole = MessagesAnswer(call).collect(MessagesAnswer(call).records([events]))
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
    assert (whole["content"][0]["thinking"], bool(whole["content"][0]["signature"])) == ("", True)


def test_a_display_of_thinking_that_nobody_has_is_refused():
    with pytest.raises(BadRequest, match="invalid thinking display"):
        parse_messages(body(thinking={"type": "adaptive", "display": "loud"}))
