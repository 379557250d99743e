from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.ollama.answer import OllamaAnswer, OllamaChatAnswer, OllamaGenerateAnswer, error_record, timestamp
from service.dialects.ollama.request import OllamaCall, parse_chat, parse_generate
from service.errors import EngineGone
from service.protocol.events import Delta, Event, Finished, Located, Rendered
from service.web.framing import NDJSON, encode

NOON = 1_795_323_967_120_000_000
Parse = Callable[[dict[str, Any]], OllamaCall]
GENERATE, CHAT = {"model": "x", "prompt": "hi"}, {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
TOOL_CALL = {"id": "call_x", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": "<&>"}}}

deltas = st.builds(
    Delta,
    id=st.just(1),
    seq=st.just(0),
    text=st.text(max_size=5),
    token_ids=st.lists(st.integers(0, 9), max_size=2),
    thinking=st.text(max_size=5),
    tool_calls=st.lists(st.just(TOOL_CALL), max_size=2),
)
FINISHED = Finished(1, "stop", 3, 2, 0, 1, 4, 9, [1, 2])


@st.composite
def answers(draw: st.DrawFn) -> list[list[Event]]:
    """The events of an answer in batches, silences among them."""
    events = [Located(1, "socket", 5), *draw(st.lists(deltas, max_size=8)), FINISHED]
    places = sorted(draw(st.lists(st.integers(0, len(events)), max_size=6)))
    return [events[start:end] for start, end in zip([0, *places], [*places, len(events)], strict=True)]


def clock(*readings: int) -> Callable[[], int]:
    """The readings, the last one for ever."""
    left = list(readings)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def lines(answer: OllamaAnswer, *events: Event) -> list[str]:
    return [encode(record).decode() for batch in answer.records([list(events)]) for record in batch]


def test_a_chat_is_on_the_wire_as_ollama_writes_it():
    answer = OllamaChatAnswer(parse_chat(CHAT), clock(NOON - 123, NOON))
    finished = Finished(1, "stop", 3, 2, 0, 0, 4, 9)
    assert lines(answer, Located(1, "s", 5), Delta(1, 0, "Hi <b> & \u2028 é", [7]), finished) == [
        r'{"model":"x","created_at":"2026-11-22T05:06:07.12Z","message":{"role":"assistant",'
        r'"content":"Hi \u003cb\u003e \u0026 \u2028 é"},"done":false}',
        '{"model":"x","created_at":"2026-11-22T05:06:07.12Z","message":{"role":"assistant","content":""},"done":true,'
        '"done_reason":"stop","total_duration":123,"load_duration":5,"prompt_eval_count":3,"prompt_eval_duration":4,'
        '"eval_count":2,"eval_duration":9}',
    ]


def test_thinking_and_tool_calls_are_on_the_wire_as_ollama_writes_them():
    answer = OllamaChatAnswer(parse_chat(CHAT), clock(NOON))
    assert lines(answer, Delta(1, 0, "", [7], thinking="hmm"), Delta(1, 1, "", [8], tool_calls=[TOOL_CALL])) == [
        '{"model":"x","created_at":"2026-11-22T05:06:07.12Z",'
        '"message":{"role":"assistant","content":"","thinking":"hmm"},"done":false}',
        '{"model":"x","created_at":"2026-11-22T05:06:07.12Z","message":{"role":"assistant","content":"",'
        r'"tool_calls":[{"id":"call_x","function":{"index":0,"name":"f","arguments":{"z":1,"a":"\u003c\u0026\u003e"}}}]},'
        '"done":false}',
    ]


def test_the_last_line_of_generate_is_on_the_wire_as_ollama_writes_it():
    answer = OllamaGenerateAnswer(parse_generate(GENERATE), clock(NOON + 3_456_788, NOON + 3_456_789))
    assert lines(answer, Finished(1, "stop", 7, 2, 0, 0, 0, 0, [1, 2])) == [
        '{"model":"x","created_at":"2026-11-22T05:06:07.123456789Z","response":"","done":true,"done_reason":"stop",'
        '"context":[1,2],"total_duration":1,"prompt_eval_count":7,"eval_count":2}'
    ]


def test_thinking_of_generate_stands_beside_the_response():
    answer = OllamaGenerateAnswer(parse_generate(GENERATE), clock(NOON))
    assert lines(answer, Delta(1, 0, "Hi", [1, 2], thinking="hmm")) == [
        '{"model":"x","created_at":"2026-11-22T05:06:07.12Z","response":"","thinking":"hmm","done":false}',
        '{"model":"x","created_at":"2026-11-22T05:06:07.12Z","response":"Hi","done":false}',
    ]


def test_a_rendered_prompt_is_not_done():
    rendered = Rendered(1, "<s>hi", 2)
    start = '{"model":"x","created_at":"2026-11-22T05:06:07.12Z",'
    end = '"done":false,"_debug_info":{"rendered_template":'
    assert lines(OllamaGenerateAnswer(parse_generate(GENERATE), clock(NOON)), rendered) == [
        start + '"response":"",' + end + r'"\u003cs\u003ehi","image_count":2}}'
    ]
    assert lines(OllamaChatAnswer(parse_chat(CHAT), clock(NOON)), Rendered(1, "hi")) == [
        start + '"message":{"role":"assistant","content":""},' + end + '"hi"}}'
    ]


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_a_load_and_an_unload_are_one_line_without_figures(reason: str):
    generate = OllamaGenerateAnswer(parse_generate({"model": "x"}), clock(NOON)).only(reason)
    chat = OllamaChatAnswer(parse_chat({"model": "x"}), clock(NOON)).only(reason)
    start, end = '{"model":"x","created_at":"2026-11-22T05:06:07.12Z",', f'"done":true,"done_reason":"{reason}"}}'
    assert encode(generate).decode() == f'{start}"response":"",{end}'
    assert encode(chat).decode() == f'{start}"message":{{"role":"assistant","content":""}},{end}'


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NOON, "2026-11-22T05:06:07.12Z"),
        (NOON + 1, "2026-11-22T05:06:07.120000001Z"),
        (NOON - 120_000_000, "2026-11-22T05:06:07Z"),
        (1_000_000, "1970-01-01T00:00:00.001Z"),
        (10_000_000_000, "1970-01-01T00:00:10Z"),
    ],
)
def test_the_zeros_at_the_end_of_a_fraction_are_trimmed(nanoseconds: int, text: str):
    assert timestamp(nanoseconds) == text


def test_the_context_is_the_prompts_tokens_and_the_answers():
    answer = OllamaGenerateAnswer(parse_generate(GENERATE), clock(NOON))
    events = [Delta(1, 0, "a", [5, 6]), Delta(1, 2, "", [7]), FINISHED]
    assert answer.collect(answer.records([events])).context == [1, 2, 5, 6, 7]


@pytest.mark.parametrize("body", [CHAT, GENERATE | {"raw": True}])
def test_a_chat_and_a_raw_answer_have_no_context(body: dict[str, Any]):
    raw = "raw" in body
    answer = (
        OllamaGenerateAnswer(parse_generate(body), clock(NOON))
        if raw
        else OllamaChatAnswer(parse_chat(body), clock(NOON))
    )
    assert '"context"' not in "".join(lines(answer, Delta(1, 0, "a", [5]), Finished(1, "stop", 1, 1, 0, 0, 0, 0)))


def test_the_wait_for_the_model_and_in_the_queue_is_the_load_duration():
    answer = OllamaChatAnswer(parse_chat(CHAT), clock(NOON))
    (record,) = [record for batch in answer.records([[Located(1, "s", 5)], [FINISHED]]) for record in batch]
    assert record.load_duration == 6


def test_a_silence_stays_a_silence_and_a_batch_that_tells_nothing_is_left_out():
    answer = OllamaChatAnswer(parse_chat(CHAT), clock(NOON))
    records = answer.records([[Located(1, "s", 5)], [], [Delta(1, 0, "", [7])], [FINISHED]])
    assert [len(batch) for batch in records] == [0, 1]


def test_a_failure_is_told_in_one_field():
    assert encode(error_record(EngineGone("<gone>"))) == rb'{"error":"\u003cgone\u003e"}'


def wire(record: Any) -> dict[str, Any]:
    return json.loads(NDJSON.frame(record))


@given(answers())
def test_collecting_a_generate_equals_streaming_it(batches: list[list[Event]]):
    streaming, collecting = (OllamaGenerateAnswer(parse_generate(GENERATE), clock(NOON)) for _ in range(2))
    *parts, last = [wire(record) for batch in streaming.records(batches) for record in batch]
    whole = wire(collecting.collect(collecting.records(batches)))
    assert whole.pop("response") == "".join(part["response"] for part in parts) + last.pop("response")
    assert whole.pop("thinking", "") == "".join(part.get("thinking", "") for part in parts)
    assert whole.pop("tool_calls", []) == [call for part in parts for call in part.get("tool_calls", [])]
    assert whole == last


@given(answers())
def test_collecting_a_chat_equals_streaming_it(batches: list[list[Event]]):
    streaming, collecting = (OllamaChatAnswer(parse_chat(CHAT), clock(NOON)) for _ in range(2))
    *parts, last = [wire(record) for batch in streaming.records(batches) for record in batch]
    whole = wire(collecting.collect(collecting.records(batches)))
    message, texts = whole.pop("message"), [part["message"] for part in [*parts, last]]
    assert message["content"] == "".join(text["content"] for text in texts)
    assert message.get("thinking", "") == "".join(text.get("thinking", "") for text in texts)
    assert message.get("tool_calls", []) == [call for text in texts for call in text.get("tool_calls", [])]
    del last["message"]
    assert whole == last


@pytest.mark.parametrize(
    ("answer", "parse", "body"),
    [(OllamaChatAnswer, parse_chat, CHAT), (OllamaGenerateAnswer, parse_generate, GENERATE)],
)
@given(batches=answers())
def test_only_the_last_record_is_done(
    answer: type[OllamaAnswer], parse: Parse, body: dict[str, Any], batches: list[list[Event]]
):  # fmt: skip
    records = [record for batch in answer(parse(body), clock(NOON)).records(batches) for record in batch]
    assert [record.done for record in records] == [False] * (len(records) - 1) + [True]
    assert [msgspec.structs.asdict(record)["done_reason"] for record in records[:-1]] == [""] * (len(records) - 1)
