"""Who is let into the engine, and when: no engine, no time, no network."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.backend import check_prompt
from service.engine.worker.admission import Account, Admission, Bill, Bucket, FairQueue, Turn
from service.errors import BadRequest, ServerBusy, TooManyRequests, Unavailable
from service.protocol.events import Delta, Event, Finished, Vectors
from service.protocol.request import Caller

NAMES = st.sampled_from("abc")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def turns(*names: str, priority: int = 0) -> list[Turn]:
    """One for each name; nobody waits for them."""
    return [Turn(Caller(name, priority), 1, None) for name in names]


def queue(*waiting: Turn) -> FairQueue:
    queue = FairQueue()
    for turn in waiting:
        queue.push(turn)
    return queue


def drained(queue: FairQueue) -> str:
    """The names in the order of their turns."""
    return "".join(queue.pop().caller.name for _ in range(len(queue)))


# --- the fair queue --------------------------------------------------------------------------------------


def test_one_who_waits_with_one_is_served_second_behind_five_hundred():
    assert drained(queue(*turns(*"a" * 500, "b"))).index("b") == 1


@pytest.mark.parametrize(
    ("arrived", "served"), [("", ""), ("aaa", "aaa"), ("aaabb", "ababa"), ("aaabc", "abcaa"), ("bbaac", "bacba")]
)
def test_callers_take_turns(arrived: str, served: str):
    assert drained(queue(*turns(*arrived))) == served


def test_who_comes_back_stands_behind_those_who_wait():
    waiting = queue(*turns(*"aab"))
    assert waiting.pop().caller.name == "a"
    waiting.push(*turns("c"))
    assert drained(waiting) == "bac"


def test_a_lower_priority_goes_first():
    assert drained(queue(*turns("a"), *turns("b", "b", priority=-1), *turns("c", priority=5))) == "bbac"


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
    served = [line.pop() for _ in waiting]
    assert [turn.caller.priority for turn in served] == sorted(turn.caller.priority for turn in waiting)
    for caller in {turn.caller for turn in waiting}:
        assert [turn for turn in served if turn.caller == caller] == [turn for turn in waiting if turn.caller == caller]


@given(st.lists(NAMES, min_size=1), st.data())
def test_who_leaves_is_served_no_more_and_everyone_else_is(names: list[str], data: st.DataObject):
    waiting = turns(*names)
    line = queue(*waiting)
    gone = data.draw(st.sampled_from(waiting))
    line.remove(gone)
    served = [line.pop() for _ in range(len(line))]
    assert (len(served), gone in served, len(line)) == (len(names) - 1, False, 0)


@pytest.mark.parametrize(("arrived", "last"), [("a", 0), ("aab", 1), ("aba", 2), ("abc", 2), ("abbac", 2)])
def test_a_full_queue_loses_the_youngest_of_the_caller_with_the_most(arrived: str, last: int):
    waiting = turns(*arrived)
    assert queue(*waiting).last() is waiting[last]


def test_a_full_queue_loses_those_of_the_highest_priority_first():
    line = queue(*turns("a", "a"), *turns("b", priority=1))
    assert line.last().caller.name == "b"


def finished(prompt_tokens: int, index: int = 0) -> Finished:
    return Finished(1, "stop", prompt_tokens, 99, 0, 0, 0, 0, index=index)


# --- limits ----------------------------------------------------------------------------------------------


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 500)), min_size=1),
)
def test_a_bucket_gives_its_rate_one_minute_in_advance_and_the_last_request(
    rate: int, requests: list[tuple[float, int]]
):
    clock = Clock()
    bucket, taken = Bucket(rate, clock), 0
    for pause, tokens in requests:
        clock.now += pause
        if bucket.debt_seconds() == 0:
            bucket.take(tokens)
            taken += tokens
    largest = max(tokens for _, tokens in requests)
    assert taken <= rate + clock.now * rate / 60 + largest + 1e-6


@given(st.integers(1, 1000), st.lists(st.integers(0, 10_000)))
def test_a_debt_is_over_after_as_long_as_it_says(rate: int, uses: list[int]):
    clock = Clock()
    bucket = Bucket(rate, clock)
    for tokens in uses:
        bucket.take(tokens)
    seconds = bucket.debt_seconds()
    assert seconds == pytest.approx(max(0, sum(uses) - rate) * 60 / rate)
    clock.now += math.ceil(seconds)
    assert bucket.debt_seconds() == pytest.approx(0, abs=1e-6)


def test_what_is_not_used_is_saved_up_for_a_minute():
    clock = Clock()
    bucket = Bucket(60, clock)
    clock.now += 3600
    bucket.take(61)
    assert bucket.debt_seconds() == pytest.approx(1)


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        ([Delta(1, 0, "x", [1] * 3), Delta(1, 3, "x", [1] * 2)], 5),
        ([Delta(1, 0, "x", [1], prompt_tokens=10), finished(10)], 11),
        ([Delta(1, 0, "x", [1], prompt_tokens=10), Delta(1, 0, "x", [1], prompt_tokens=10, index=1)], 12),
        ([finished(10), finished(10, index=1)], 10),
        ([Vectors(1, [b""], 10), Vectors(1, [b""], 10)], 20),
    ],
)
def test_output_and_the_prompt_are_on_the_bill_and_the_prompt_once(events: list[Event], tokens: int):
    clock = Clock()
    bucket = Bucket(1, clock)
    bill = Bill(bucket)
    for event in events:
        bill.add(event)
    assert bucket.debt_seconds() == (tokens - 1) * 60


def test_who_has_used_up_his_tokens_is_told_when_he_has_some_again():
    account, caller = Account(), Caller("a", tokens_per_minute=60)
    account.enter(caller).add(Delta(1, 0, "x", [1] * 60))
    account.enter(caller).add(Delta(1, 0, "x", [1] * 3))
    with pytest.raises(TooManyRequests, match='key "a" has used up its 60 tokens a minute') as caught:
        account.enter(caller)
    assert caught.value.retry_after == 3


def test_another_rate_begins_anew():
    account = Account()
    account.enter(Caller("a", tokens_per_minute=1)).add(Delta(1, 0, "x", [1] * 1000))
    account.enter(Caller("a", tokens_per_minute=2))
    account.enter(Caller("a"))


def test_what_is_left_makes_room_for_what_comes():
    account, caller = Account(), Caller("a", max_concurrent=2)
    account.enter(caller)
    account.enter(caller)
    with pytest.raises(TooManyRequests, match='key "a" has 2 requests running or waiting'):
        account.enter(caller)
    account.leave()
    account.enter(caller)


@pytest.mark.parametrize(("limit", "tokens", "fits"), [(0, 9999, True), (5, 5, True), (5, 6, False)])
def test_a_prompt_over_its_limit_is_refused(limit: int, tokens: int, fits: bool):
    caller = Caller("a", max_prompt_tokens=limit)
    if fits:
        check_prompt(caller, tokens)
    else:
        with pytest.raises(BadRequest, match="the prompt has 6 tokens, and may have 5"):
            check_prompt(caller, tokens)


# --- admission -------------------------------------------------------------------------------------------


class Crowd:
    """Requests for one engine, each a task that runs until it is told to end; `log` has their names as they got in."""

    def __init__(self, places: int, max_waiting: int = 0) -> None:
        self.admission = Admission(places, max_waiting)
        self.log: list[str] = []
        self.refused: list[str] = []
        self._running: deque[asyncio.Event] = deque()

    def come(self, name: str, sequences: int = 1, **limits: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._ask(Caller(name, **limits), sequences))

    async def _ask(self, caller: Caller, sequences: int) -> None:
        try:
            async with self.admission.admitted(caller, sequences):
                self.log.append(caller.name)
                self._running.append(asyncio.Event())
                await self._running[-1].wait()
        except (TooManyRequests, Unavailable) as error:
            self.refused.append(f"{caller.name}: {error.status}")

    async def settle(self) -> None:
        """Until nothing happens any more."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def end_one(self) -> None:
        self._running.popleft().set()
        await self.settle()

    async def end_all(self) -> None:
        await self.settle()
        while self._running:
            await self.end_one()


def run(test: Callable[[], Coroutine[Any, Any, Awaitable[None] | None]]) -> None:
    asyncio.run(test())


def test_five_hundred_of_one_key_let_the_one_of_another_in_next():
    async def test() -> None:
        crowd = Crowd(places=2)
        for name in ["many"] * 500 + ["one"]:
            crowd.come(name)
        await crowd.settle()
        assert (crowd.log, crowd.admission.waiting) == (["many"] * 2, 499)
        await crowd.end_one()
        await crowd.end_one()
        assert crowd.log == ["many", "many", "many", "one"]
        await crowd.end_all()
        assert len(crowd.log) == 501

    run(test)


def test_a_full_queue_refuses_and_room_is_made_by_the_one_with_the_most():
    async def test() -> None:
        crowd = Crowd(places=1, max_waiting=3)
        for name in "aaaaab":
            crowd.come(name)
        await crowd.end_all()
        assert (crowd.log, crowd.refused) == (["a", "a", "b", "a"], ["a: 503"] * 2)

    run(test)


def test_the_busy_error_has_ollamas_text():
    async def test() -> None:
        admission = Admission(1, 1)
        async with admission.admitted(Caller("a"), 1):
            waiting = asyncio.create_task(admission.admitted(Caller("a"), 1).__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(ServerBusy) as caught:
                await admission.admitted(Caller("a"), 1).__aenter__()
            waiting.cancel()
        assert caught.value.headers == {"Retry-After": "1"}

    run(test)


def test_one_over_its_own_limit_is_refused_and_nobody_else():
    async def test() -> None:
        crowd = Crowd(places=1)
        for name in "aaab":
            crowd.come(name, max_concurrent=2)
        await crowd.end_all()
        assert (crowd.log, crowd.refused) == (["a", "a", "b"], ["a: 429"])

    run(test)


def test_a_request_of_several_sequences_waits_for_as_many_places_or_for_all():
    async def test() -> None:
        crowd = Crowd(places=4)
        for name, sequences in [("a", 2), ("b", 3), ("c", 1), ("d", 100)]:
            crowd.come(name, sequences)
        await crowd.settle()
        assert crowd.log == ["a"]
        await crowd.end_one()
        assert crowd.log == ["a", "b", "c"]
        await crowd.end_one()
        await crowd.end_one()
        assert crowd.log == ["a", "b", "c", "d"]
        await crowd.end_all()

    run(test)


@given(st.lists(st.tuples(NAMES, st.integers(1, 3), st.sampled_from(["come", "cancel", "end"])), max_size=40))
def test_every_place_comes_back_whoever_leaves_and_when(steps: list[tuple[str, int, str]]):
    async def test() -> None:
        crowd = Crowd(places=2, max_waiting=4)
        tasks: list[asyncio.Task[None]] = []
        for name, number, step in steps:
            if step == "come":
                tasks.append(crowd.come(name, number, max_concurrent=5))
            elif step == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif crowd._running:
                crowd._running.popleft().set()
            if number == 1:
                await crowd.settle()
        await crowd.end_all()
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
        assert (crowd.admission.waiting, crowd.admission._free) == (0, 2)
        assert all(account._requests == 0 for account in crowd.admission._accounts.values())

    run(test)
