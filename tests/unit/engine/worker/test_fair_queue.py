"""The order in which waiting requests get their turn: no engine, no time, no network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.worker.admission import FairQueue, Turn
from service.protocol.request import Caller

NAMES = st.sampled_from("abc")


def turns(*names: str, priority: int = 0) -> list[Turn]:
    """One for each name; nobody waits for them."""
    return [Turn(Caller(name, priority), 1, None) for name in names]


def queue(*waiting: Turn) -> FairQueue:
    queue = FairQueue()
    for turn in waiting:
        queue.push(turn)
    return queue


def pop(queue: FairQueue, **places: int) -> Turn:
    """Take the next turn, where callers have these places and all others none."""
    turn = queue.in_order(lambda name: places.get(name, 0))[0]
    queue.take(turn)
    return turn


def drained(queue: FairQueue) -> str:
    """The names in the order of their turns, where no caller has a place."""
    return "".join(pop(queue).caller.name for _ in range(len(queue)))


def test_one_who_waits_with_one_is_served_second_behind_five_hundred():
    assert drained(queue(*turns(*"a" * 500, "b"))).index("b") == 1


@pytest.mark.parametrize(
    ("arrived", "served"), [("", ""), ("aaa", "aaa"), ("aaabb", "ababa"), ("aaabc", "abcaa"), ("bbaac", "bacba")]
)
def test_callers_take_turns(arrived: str, served: str):
    assert drained(queue(*turns(*arrived))) == served


def test_who_comes_back_stands_behind_those_who_wait():
    waiting = queue(*turns(*"aab"))
    assert pop(waiting).caller.name == "a"
    waiting.push(*turns("c"))
    assert drained(waiting) == "bac"


def test_a_lower_priority_goes_first():
    assert drained(queue(*turns("a"), *turns("b", "b", priority=-1), *turns("c", priority=5))) == "bbac"


def test_the_caller_with_the_fewest_places_goes_first():
    waiting = queue(*turns(*"aabbc"))
    assert [pop(waiting, a=2, b=1, c=5).caller.name for _ in range(5)] == list("bbaac")


def test_an_empty_queue_has_no_turn():
    assert queue().in_order(lambda _: 0) == []


@given(st.lists(NAMES), st.lists(NAMES))
def test_between_two_turns_of_one_caller_everyone_else_who_waits_has_one(before: list[str], after: list[str]):
    served = drained(queue(*turns(*before, *after)))
    assert sorted(served) == sorted(before + after)
    for place, name in enumerate(served):
        again = served.find(name, place + 1)
        assert again < 0 or set(served[place:again]) >= set(served[again:])


@given(st.lists(st.tuples(NAMES, st.integers(-1, 1))))
def test_of_each_caller_the_oldest_goes_first(arrivals: list[tuple[str, int]]):
    waiting = [turn for name, priority in arrivals for turn in turns(name, priority=priority)]
    line = queue(*waiting)
    served = [pop(line) for _ in waiting]
    assert [turn.caller.priority for turn in served] == sorted(turn.caller.priority for turn in waiting)
    for caller in {turn.caller for turn in waiting}:
        assert [turn for turn in served if turn.caller == caller] == [turn for turn in waiting if turn.caller == caller]


@given(st.lists(NAMES, min_size=1), st.data())
def test_who_leaves_is_served_no_more_and_everyone_else_is(names: list[str], data: st.DataObject):
    waiting = turns(*names)
    line = queue(*waiting)
    gone = data.draw(st.sampled_from(waiting))
    line.remove(gone)
    served = [pop(line) for _ in range(len(line))]
    assert (len(served), gone in served, len(line)) == (len(names) - 1, False, 0)


@pytest.mark.parametrize(("arrived", "last"), [("a", 0), ("aab", 1), ("aba", 2), ("abc", 2), ("abbac", 2)])
def test_a_full_queue_loses_the_youngest_of_the_caller_with_the_most(arrived: str, last: int):
    waiting = turns(*arrived)
    assert queue(*waiting).last() is waiting[last]


def test_a_full_queue_loses_those_of_the_highest_priority_first():
    line = queue(*turns("a", "a"), *turns("b", priority=1))
    assert line.last().caller.name == "b"
