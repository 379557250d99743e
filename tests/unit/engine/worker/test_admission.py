"""The admission of requests to the engine: no engine, no time, no network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.shares import TIMES
from service.engine.worker.admission import PASSED_ROUNDS, Admission
from service.errors import ServerBusy, TooManyRequests, Unavailable
from service.protocol.request import Caller

NAMES = st.sampled_from("abc")


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
        assert crowd.log == ["many", "many", "one", "many"]
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


def test_a_request_of_several_sequences_waits_for_as_many_places_or_for_all_that_a_caller_may_have():
    async def test() -> None:
        crowd = Crowd(places=6)
        for name, sequences in [("a", 4), ("b", 3), ("c", 2), ("d", 100)]:
            crowd.come(name, sequences)
        await crowd.settle()
        assert crowd.log == ["a", "c"]
        await crowd.end_one()
        assert crowd.log == ["a", "c", "b"]
        await crowd.end_one()
        assert crowd.log == ["a", "c", "b"]
        await crowd.end_one()
        assert crowd.log == ["a", "c", "b", "d"]
        await crowd.end_all()

    run(test)


def test_a_turn_that_does_not_fit_lets_those_pass_that_do():
    async def test() -> None:
        crowd = Crowd(places=16)
        for name, sequences in [("big", 12), ("big", 12), *[("a", 1), ("b", 1)] * 2]:
            crowd.come(name, sequences)
        await crowd.settle()
        assert crowd.log == ["big", "a", "b", "a"]
        # The last place is left for a caller that has none.
        crowd.come("c")
        await crowd.settle()
        assert crowd.log == ["big", "a", "b", "a", "c"]
        await crowd.end_all()
        assert sorted(crowd.log) == ["a", "a", "b", "b", "big", "big", "c"]

    run(test)


def test_one_caller_has_all_places_only_while_there_is_no_other():
    async def test() -> None:
        crowd = Crowd(places=8)
        for _ in range(30):
            crowd.come("many")
        await crowd.settle()
        assert len(crowd.log) == 8
        crowd.come("one")
        for _ in range(4):
            await crowd.end_one()
        assert crowd.log == ["many"] * 8 + ["one"] + ["many"] * 2
        crowd.come("other")
        await crowd.settle()
        assert crowd.log[11:] == ["other"]
        await crowd.end_all()

    run(test)


@given(st.integers(2, 12), st.integers(2, 4), st.integers(0, 3))
def test_a_big_turn_is_passed_a_bounded_number_of_times(places: int, others: int, more: int):
    async def test() -> None:
        crowd = Crowd(places)
        names = [f"other{number}" for number in range(others)]
        for name in names * (1 + more):
            crowd.come(name)
        await crowd.settle()
        crowd.come("big", 100)
        # Callers that came earlier have their turns, the big one is passed, and what runs then ends.
        for _ in range((PASSED_ROUNDS + 2) * places + 2 * others):
            # Each request that ends is followed by another one of its caller.
            crowd.come(crowd.log[len(crowd.log) - len(crowd._running)])
            await crowd.end_one()
            if "big" in crowd.log:
                break
        assert "big" in crowd.log
        await crowd.end_all()

    run(test)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abcd"), st.integers(1, 14)),
        st.tuples(st.sampled_from(["end", "cancel"]), st.just(""), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(st.integers(1, 12), STEPS)
def test_places_are_never_exceeded_shared_fairly_and_not_left_unused(places: int, steps: list[tuple[str, str, int]]):
    async def test() -> None:
        crowd = Crowd(places)
        admission = crowd.admission
        tasks: list[asyncio.Task[None]] = []
        for step, name, number in steps:
            before = {name: account.places for name, account in admission._accounts.items()}
            if step == "come":
                tasks.append(crowd.come(name, number))
            elif step == "cancel" and tasks:
                tasks.pop(number % len(tasks)).cancel()
            elif crowd._running:
                await crowd.end_one()
            await crowd.settle()
            assert_fair(admission, places, before if step == "come" else {})
        await crowd.end_all()
        assert (admission.waiting, admission._free, admission._beside) == (0, places, 0)

    run(test)


def assert_fair(admission: Admission, places: int, before: dict[str, int]) -> None:
    held = {name: account.places for name, account in admission._accounts.items()}
    assert sum(held.values()) + admission._free == places
    assert admission._free >= 0
    assert 0 <= admission._beside <= admission._kept
    for name, count in held.items():
        if count > before.get(name, 0) > 0 and len(held) > 1:
            # A caller that had places has got more, and has left some for others.
            assert count <= TIMES * admission._free
    waiting = admission._queue.in_order(admission._places)
    if sum(held.values()) == 0:
        assert not waiting
    for turn in waiting:
        due = any(admission._is_due(each) for each in waiting)
        assert due or not admission._fits(turn)
        # Of callers without a place none waits for one that is free, unless a turn is due.
        assert due or held[turn.caller.name] or turn.capacity > admission._free


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
