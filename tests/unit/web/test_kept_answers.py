"""Any cut, any join, any move: a stream that is resumed says the same as one that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.ollama.request import parse_chat as parse_ollama
from service.dialects.ollama.request import parse_generate
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions import parse_completion
from service.dialects.openai.responses_answer import ResponsesAnswer, rest_of
from service.dialects.openai.responses_request import parse_responses
from service.engine_client.cursor import Cursor, Replay
from service.errors import EngineFailure
from service.protocol.events import Delta, Event, Finished, TokenLogprob
from service.protocol.joined import JoinedAnswers, Places
from service.web.framing import encode
from service.web.kept_answers import KINDS, KeptRecords, read_recipe, recipe_of, responses_recipe, with_id

STREAM = "s" * 32
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "a secret"}], "stream": True}
CALLS: dict[str, Any] = {
    "ollama.chat": parse_ollama({**CHAT, "logprobs": True}),
    "ollama.generate": parse_generate({"model": "demo", "prompt": "a secret", "logprobs": True}),
    "openai.chat": parse_chat({**CHAT, "n": 2, "logprobs": True, "stream_options": {"include_usage": True}}),
    "openai.completions": parse_completion(
        {
            "model": "demo",
            "prompt": ["a", "b"],
            "logprobs": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ),
}
ANSWERS = {"ollama.chat": 1, "ollama.generate": 1, "openai.chat": 2, "openai.completions": 2}
CALL = {"id": "call_1", "function": {"name": "f", "arguments": {"x": 1}}}


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, -1.0, list(text.encode()))


@st.composite
def answers(draw: st.DrawFn, count: int, has_thinking: bool) -> list[Event]:
    """The events of so many answers, in any order."""
    left: dict[int, list[Event]] = {}
    # Without them a delta of nothing but text becomes a prepared record.
    has_logprobs = draw(st.booleans())
    for index in range(count):
        seq, events = 0, []
        channels = st.sampled_from(["text", "text", "nothing", *(["thinking", "call"] if has_thinking else [])])
        for channel in draw(st.lists(channels, max_size=8)):
            text = draw(st.text("añ日🎉\n", min_size=1, max_size=3)) if channel != "nothing" else ""
            logprobs = [token(text)] if has_logprobs else []
            delta = Delta(0, seq, "", [seq], index=index, prompt_tokens=0 if seq else 3, logprobs=logprobs)
            if channel == "call":
                delta.tool_calls = [CALL]
            elif channel == "thinking":
                delta.thinking = text
            else:
                delta.text = text
            seq += 1
            events.append(delta)
        left[index] = [*events, Finished(0, "stop", 3, seq, 0, 0, 0, 0, index=index)]
    mixed = []
    while left:
        index = draw(st.sampled_from(sorted(left)))
        mixed.append(left[index].pop(0))
        if not left[index]:
            del left[index]
    return mixed


def copies(events: list[Event]) -> list[Event]:
    return [msgspec.structs.replace(event) for event in events]


def joined(events: list[Event], cuts: list[int]) -> Iterator[list[Event]]:
    """The events as a reader gets them that reads after each of `cuts` events, and at the end."""
    answers, places, read = JoinedAnswers(), Places(), 0
    for until in [*sorted(cuts), len(events)]:
        for event in copies(events[read:until]):
            answers.add(event)
        read = max(read, until)
        yield list(answers.since(places))


def records(kind: str, cursor: Cursor, batches: Iterator[list[Event]]) -> list[tuple[dict[str, Any], str]]:
    """The records that a web worker makes which knows the recipe alone."""
    recipe = read_recipe(recipe_of(kind, with_id(CALLS[kind], STREAM)))
    made = KeptRecords(KINDS[kind].answer(recipe.call, 0), cursor, ANSWERS[kind], KINDS[kind].is_ollama)
    return [(json.loads(encode(record)), mark) for batch in made.batches(batches) for record, mark in batch]


def said(kind: str, told: list[tuple[dict[str, Any], str]]) -> list[Any]:
    """What the records say to a client that puts them together."""
    if kind.startswith("ollama"):
        messages = [record.get("message", record) for record, _ in told]
        last = told[-1][0]
        return [
            "".join(message.get("content", message.get("response", "")) for message in messages),
            "".join(message.get("thinking", "") for message in messages),
            [call for message in messages for call in message.get("tool_calls", [])],
            [logprob for record, _ in told for logprob in record.get("logprobs", [])],
            [record["done"] for record, _ in told].count(True),
            (last["done_reason"], last.get("eval_count"), last.get("prompt_eval_count")),
        ]
    by_index: dict[int, list[Any]] = {}
    for record, _ in told:
        for choice in record["choices"]:
            by_index.setdefault(choice["index"], []).append(choice)
    usages = [record["usage"] for record, _ in told if "usage" in record]
    ids = {(record["id"], record["created"]) for record, _ in told}
    return [usages, ids, {index: _choices(choices) for index, choices in sorted(by_index.items())}]


def _choices(choices: list[Any]) -> list[Any]:
    deltas = [choice.get("delta", choice) for choice in choices]
    logprobs = [choice["logprobs"] for choice in choices if choice.get("logprobs")]
    return [
        "".join(delta.get("content") or delta.get("text") or "" for delta in deltas),
        "".join(delta.get("reasoning") or "" for delta in deltas),
        [call for delta in deltas for call in delta.get("tool_calls", [])],
        [delta["role"] for delta in deltas if "role" in delta],
        [choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
        [token for part in logprobs for token in part.get("content", part.get("tokens"))],
        [offset for part in logprobs for offset in part.get("text_offset", [])],
    ]


@pytest.mark.parametrize("kind", CALLS)
@given(data=st.data())
def test_resumed_is_undisturbed(kind: str, data: st.DataObject):
    events = data.draw(answers(ANSWERS[kind], has_thinking=kind != "openai.completions"))
    where = st.integers(0, len(events))
    told: list[tuple[dict[str, Any], str]] = []
    mark = ""
    undisturbed = records(kind, Cursor(STREAM), joined(events, list(range(len(events)))))
    for _ in range(data.draw(st.integers(0, 3))):
        cuts = data.draw(st.lists(where, max_size=4))
        rest = records(kind, Cursor.parse(mark, STREAM), joined(events, cuts))
        told += rest[: data.draw(st.integers(0, len(rest)))]
        mark = told[-1][1] if told else ""
        if mark.endswith(".end"):
            break
    if not mark.endswith(".end"):
        told += records(kind, Cursor.parse(mark, STREAM), joined(events, data.draw(st.lists(where, max_size=4))))
    assert said(kind, told) == said(kind, undisturbed)


@pytest.mark.parametrize("has_logprobs", [True, False])
@pytest.mark.parametrize("kind", CALLS)
def test_any_record_can_be_the_last_that_a_client_has(kind: str, has_logprobs: bool):
    logprobs = [token("ab")] if has_logprobs else []
    events: list[Event] = []
    for index in reversed(range(ANSWERS[kind])):
        events += [
            Delta(0, seq, "ab", [seq], index=index, prompt_tokens=0 if seq else 3, logprobs=logprobs)
            for seq in range(3)
        ]
        if kind != "openai.completions":
            events[-1].thinking, events[-1].tool_calls = "hm", [CALL]
        events.append(Finished(0, "stop", 3, 3, 0, 0, 0, 0, index=index))
    whole = records(kind, Cursor(STREAM), joined(events, list(range(len(events)))))
    for count in range(1, len(whole)):
        told = whole[:count]
        told += records(kind, Cursor.parse(told[-1][1], STREAM), joined(events, []))
        assert said(kind, told) == said(kind, whole), whole[count - 1]


def responses(after: int, batches: Iterator[list[Event]]) -> list[dict[str, Any]]:
    """The events of a response in the background that follow the one with the number `after`."""
    recipe = responses_recipe(parse_responses({"model": "demo", "input": "a secret", "background": True}))
    call = read_recipe(recipe).responses
    assert call is not None
    answer = ResponsesAnswer(call, "k", lambda: 0.0)
    return [event for batch in answer.records(batches) for event in rest_of(batch, after)]


@given(data=st.data())
def test_a_response_that_is_read_from_any_event_is_undisturbed(data: st.DataObject):
    # Log probabilities are refused in the background.
    events = [
        msgspec.structs.replace(event, logprobs=[]) if isinstance(event, Delta) else event
        for event in data.draw(answers(1, has_thinking=True))
    ]
    where = st.lists(st.integers(0, len(events)), max_size=4)
    undisturbed = responses(-1, joined(events, list(range(len(events)))))
    told: list[dict[str, Any]] = []
    after = -1
    for is_last in [False] * data.draw(st.integers(0, 3)) + [True]:
        rest = responses(after, joined(events, data.draw(where)))
        told += rest if is_last else rest[: data.draw(st.integers(0, len(rest)))]
        after = told[-1]["sequence_number"] if told else -1
    assert spoken(told) == spoken(undisturbed)
    numbers = [event["sequence_number"] for event in told]
    assert numbers == sorted(set(numbers))


def spoken(events: list[dict[str, Any]]) -> list[Any]:
    """The events; those of one text are joined."""
    parts: list[tuple[Any, Any]] = []
    for event in events:
        kind, text = (event["type"], event.get("output_index")), event.get("delta")
        if not event["type"].endswith("text.delta"):
            parts.append((kind, event))
        elif parts and parts[-1][0] == kind:
            parts[-1] = (kind, parts[-1][1] + text)
        else:
            parts.append((kind, text))
    return parts


@given(data=st.data())
def test_what_another_engine_begins_with_is_what_the_first_one_had(data: st.DataObject):
    events = data.draw(answers(3, has_thinking=True))
    moved_at = data.draw(st.integers(0, len(events)))
    first, second = JoinedAnswers(), JoinedAnswers()
    for event in copies(events[:moved_at]):
        first.add(event)
    for event in [*first.since(Places()), *copies(events[moved_at:])]:
        second.add(event)
    whole = JoinedAnswers()
    for event in copies(events):
        whole.add(event)
    assert list(second.since(Places())) == list(whole.since(Places()))
    assert (second.tokens, second.ended) == (whole.tokens, whole.ended) == (whole.tokens, 3)


@given(data=st.data())
def test_a_reader_whose_stream_moves_gets_each_part_once(data: st.DataObject):
    events = data.draw(answers(2, has_thinking=True))
    passed, got = Cursor(STREAM), JoinedAnswers()
    for _ in range(3):
        replay = Replay(passed)
        batches = list(joined(events, data.draw(st.lists(st.integers(0, len(events)), max_size=3))))
        for batch in batches[: data.draw(st.integers(0, len(batches)))]:
            for event in batch:
                if isinstance(event, Delta) and (rest := replay.split(event)[1]) is not None:
                    passed.add(rest)
                    got.add(rest)
    replay = Replay(passed)
    for event in copies(events):
        if isinstance(event, Delta) and (rest := replay.split(event)[1]) is not None:
            got.add(rest)
    assert got.tokens == sum(len(event.token_ids) for event in events if isinstance(event, Delta))


def test_a_recipe_holds_no_prompt():
    assert b"secret" not in recipe_of("openai.chat", CALLS["openai.chat"])


def test_a_recipe_of_another_version_is_refused():
    with pytest.raises(EngineFailure, match="another version"):
        read_recipe(b"\x81\xa4kind\xa5other")


def test_a_cursor_that_claims_the_last_record_gets_it_all_the_same():
    """No record has this cursor: the one after the last record is the end."""
    events: list[Event] = [Delta(0, 0, "a", [1], prompt_tokens=3), Finished(0, "stop", 3, 1, 0, 0, 0, 0)]
    rest = records("ollama.chat", Cursor.parse("1-1~1", STREAM), joined(events, []))
    assert [(record["done"], mark) for record, mark in rest] == [(True, f"{STREAM}.end")]


@pytest.mark.parametrize("kind", ["openai.chat", "openai.completions"])
def test_the_id_of_an_answer_says_nothing_of_the_id_of_its_stream(kind: str):
    one, other = with_id(CALLS[kind], STREAM), with_id(CALLS[kind], STREAM[:-1] + "t")
    assert one.request_id == with_id(CALLS[kind], STREAM).request_id
    assert one.request_id[:12] != other.request_id[:12]
    assert STREAM[:8] not in one.request_id
