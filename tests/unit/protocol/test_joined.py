"""Whatever the deltas of a stream hold, and whenever it is read, the joined answers hold the same in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.protocol.events import Delta, Finished, Located, TokenLogprob
from service.protocol.joined import JoinedAnswers, Places, joined_whole
from service.protocol.joining import joined

Events = list[Delta | Finished]

CALL = {"name": "add", "arguments": {}}
LOGPROB = TokenLogprob("a", 1, -0.5, [])
ANSWERS = 3

words = st.sampled_from(["", "", "a ", "bc ", "é😀"])
deltas = st.builds(
    lambda index, text, thinking, calls, logprobs: Delta(
        1, 0, text, [len(text)] if text else [], thinking, [CALL] * calls, [LOGPROB] * logprobs, index
    ),
    st.integers(0, ANSWERS - 1),
    words,
    st.sampled_from(["", "", "", "hm "]),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 1]),
)


def atoms(events: Iterable[Any]) -> dict[int, list[Any]]:
    """What each answer says, letter by letter: a delta's thinking, then its text, then its calls."""
    said: dict[int, list[Any]] = {}
    for event in events:
        if isinstance(event, Delta):
            each = said.setdefault(event.index, [])
            each += [("thinking", letter) for letter in event.thinking] + [("text", letter) for letter in event.text]
            each += event.tool_calls
    return {index: each for index, each in said.items() if each}


def lists(events: Iterable[Any]) -> dict[int, tuple[list[int], int]]:
    """The token ids of each answer, and how many log probabilities it has."""
    held: dict[int, tuple[list[int], int]] = {}
    for event in events:
        if isinstance(event, Delta):
            ids, logprobs = held.get(event.index, ([], 0))
            held[event.index] = ids + event.token_ids, logprobs + len(event.logprobs)
    return {index: each for index, each in held.items() if each != ([], 0)}


@given(st.lists(deltas, max_size=120), st.sets(st.integers(0, 120), max_size=5))
def test_a_reader_gets_everything_in_order_however_often_it_reads(events: list[Delta], reads: set[int]) -> None:
    answers, places, read = JoinedAnswers(), Places(), Events()
    for number, event in enumerate(events):
        if number in reads:
            read += answers.since(places)
        answers.add(event)
    read += answers.since(places)
    assert (atoms(read), lists(read)) == (atoms(events), lists(events))


@given(st.lists(deltas, max_size=120))
def test_the_counts_hold_before_and_after_joining(events: list[Delta]) -> None:
    one, other = JoinedAnswers(), JoinedAnswers()
    for event in events:
        one.add(event)
        other.add(event)
        assert other.tokens >= 0  # Reading a count joins.
    assert (one.tokens, one.bytes, one.ended) == (other.tokens, other.bytes, other.ended)
    assert one.tokens == sum(len(event.token_ids) for event in events)


def test_text_after_a_call_is_not_joined_to_what_stands_before_the_call() -> None:
    answers = JoinedAnswers()
    for delta in (Delta(1, 0, "a", [1]), Delta(1, 1, "", [2], tool_calls=[CALL]), Delta(1, 2, "b", [3])):
        answers.add(delta)
    first, second = answers.since(Places())
    assert isinstance(first, Delta)
    assert isinstance(second, Delta)
    assert (first.text, first.tool_calls, second.text, second.seq) == ("a", [CALL], "b", 2)


def test_log_probabilities_of_thoughts_are_not_joined_with_those_of_the_text() -> None:
    thoughts = [Delta(1, seq, "", [seq], "hm ", logprobs=[LOGPROB]) for seq in (0, 1)]
    texts = [Delta(1, seq, "a ", [seq], logprobs=[LOGPROB] * 3) for seq in (2, 3)]
    (whole,) = joined_whole([[*thoughts, *texts]])
    for events in (whole, joined([*thoughts, *texts])):
        parts = [event for event in events if isinstance(event, Delta)]
        assert [(part.thinking, part.text, len(part.logprobs)) for part in parts] == [
            ("hm hm ", "", 2),
            ("", "a a ", 6),
        ]


def test_a_reader_that_comes_late_gets_the_end_of_an_answer_before_the_rest_of_another() -> None:
    answers = JoinedAnswers()
    end = Finished(1, "stop", 1, 1, 0, 0, 0, 0)
    for event in (Delta(1, 0, "a", [1], index=1), Delta(1, 0, "b", [1]), end):
        answers.add(event)
    assert [(type(event).__name__, event.index) for event in answers.since(Places())] == [
        ("Delta", 0), ("Finished", 0), ("Delta", 1),
    ]  # fmt: skip


def test_a_whole_answer_is_joined_after_all_other_events() -> None:
    located = Located(1, "/s", 0)
    ends = [Finished(1, "stop", 1, 1, 0, 0, 0, 0, index=index) for index in (0, 1)]
    deltas = [[Delta(1, token, "ab", [token], index=token % 2)] for token in range(100)]
    first, whole = joined_whole([[located], [], *deltas, ends])
    assert first == [located]
    assert [(each.index, each.text, len(each.token_ids)) for each in whole if isinstance(each, Delta)] == [
        (0, "ab" * 50, 50),
        (1, "ab" * 50, 50),
    ]
    assert [each.index for each in whole if isinstance(each, Finished)] == [0, 1]
