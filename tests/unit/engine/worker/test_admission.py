"""The admission of requests to the engine: no engine, no time, no network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.worker.admission import Admission
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
