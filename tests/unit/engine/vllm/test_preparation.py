from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from service.engine.vllm.preparation import Preparation
from service.errors import BadRequest, Unavailable


class Gate:
    """Work that goes on only once it may, and that keeps the order in which it began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._opened: dict[str, threading.Event] = {}

    def work(self, name: str) -> Callable[[], str]:
        self._opened[name] = threading.Event()

        def work() -> str:
            self.begun.append(name)
            assert self._opened[name].wait(120)
            return name

        return work

    def open(self, *names: str) -> None:
        for name in names:
            self._opened[name].set()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.001)


def test_work_is_done_in_a_thread_and_its_result_and_its_error_come_back():
    async def play() -> None:
        preparation = Preparation()
        assert await preparation.run("a", threading.current_thread) is not threading.main_thread()
        with pytest.raises(BadRequest, match="no"):
            await preparation.run("a", _fail)
        assert await preparation.run("a", lambda value, more: value + more, 1, more=2) == 3

    asyncio.run(play())


def _fail() -> None:
    raise BadRequest("no")


def test_no_caller_has_all_threads_and_the_callers_take_turns():
    async def play() -> None:
        gate, preparation = Gate(), Preparation(threads=2)
        names = ("a1", "a2", "a3", "b1", "c1")
        tasks = [asyncio.create_task(preparation.run(name[0], gate.work(name))) for name in names]
        await until(lambda: len(gate.begun) == 2)
        assert sorted(gate.begun) == ["a1", "b1"]
        gate.open("b1")
        await until(lambda: "c1" in gate.begun)
        gate.open("a1")
        await until(lambda: "a2" in gate.begun)
        gate.open("a2", "a3", "c1")
        assert await asyncio.gather(*tasks) == list(names)
        assert gate.begun.index("c1") < gate.begun.index("a2") < gate.begun.index("a3")

    asyncio.run(play())


def test_one_caller_has_several_threads_and_leaves_one_for_others():
    async def play() -> None:
        gate, preparation = Gate(), Preparation(threads=3)
        tasks = [asyncio.create_task(preparation.run("a", gate.work(name))) for name in ("a1", "a2", "a3")]
        await until(lambda: len(gate.begun) == 2)
        assert await preparation.run("b", lambda: "b") == "b"
        assert len(gate.begun) == 2
        gate.open("a1", "a2", "a3")
        assert await asyncio.gather(*tasks) == ["a1", "a2", "a3"]

    asyncio.run(play())


def test_a_caller_that_leaves_keeps_its_turn_until_its_thread_is_free():
    async def play() -> None:
        gate, preparation = Gate(), Preparation(threads=1)
        leaving = asyncio.create_task(preparation.run("a", gate.work("a1")))
        await until(lambda: gate.begun)
        leaving.cancel()
        waiting = asyncio.create_task(preparation.run("b", gate.work("b1")))
        await asyncio.sleep(0.02)
        assert gate.begun == ["a1"]
        gate.open("a1", "b1")
        assert await waiting == "b1"
        assert leaving.cancelled()

    asyncio.run(play())


@pytest.mark.parametrize("together", [True, False])
def test_a_turn_of_a_caller_that_leaves_goes_to_the_next_one(together: bool):
    async def play() -> None:
        gate, preparation = Gate(), Preparation(threads=1)
        first = asyncio.create_task(preparation.run("a", gate.work("a1")))
        await until(lambda: gate.begun)
        leaving = [asyncio.create_task(preparation.run(name[0], gate.work(name))) for name in ("b1", "b2")]
        last = asyncio.create_task(preparation.run("c", gate.work("c1")))
        await asyncio.sleep(0)
        if together:
            # The turn is given, and taken back before the waiting task has run.
            gate.open("a1")
            await first
        for each in leaving:
            each.cancel()
        gate.open("a1", "b1", "c1")
        assert await last == "c1"
        assert await preparation.run("d", lambda: "d") == "d"

    asyncio.run(play())


def test_a_step_that_does_not_end_is_given_up_and_the_next_ones_are_done():
    async def play() -> None:
        gate, preparation = Gate(), Preparation(threads=1, step_seconds=0.05)
        with pytest.raises(Unavailable):
            await preparation.run("a", gate.work("a1"))
        assert [await preparation.run("a", lambda: 1), await preparation.run("b", lambda: 2)] == [1, 2]
        gate.open("a1")

    asyncio.run(play())


def test_a_turn_can_be_had_for_work_that_is_done_elsewhere():
    async def play() -> None:
        preparation = Preparation(threads=1)
        async with preparation.turns.turn("a"):
            waiting = asyncio.create_task(preparation.run("b", lambda: "b"))
            await asyncio.sleep(0.02)
            assert not waiting.done()
        assert await waiting == "b"

    asyncio.run(play())


@pytest.mark.parametrize("steps", range(6))
def test_a_request_that_is_cancelled_just_as_its_work_is_done_ends(steps: int):
    """Whichever step of the loop the cancellation falls into: a client that leaves just then must not be served on."""

    async def play() -> None:
        gate, preparation = Gate(), Preparation()
        task = asyncio.create_task(preparation.run("a", gate.work("a1")))
        await until(lambda: gate.begun)
        gate.open("a1")
        # The loop stands still until the thread has handed its result over.
        preparation._pool.shutdown(wait=True)
        for _ in range(steps):
            await asyncio.sleep(0)
        is_cancelled = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == is_cancelled

    asyncio.run(play())


def test_the_loop_looks_at_everything_else_between_two_turns_on_it():
    async def play() -> None:
        preparation, seen = Preparation(threads=1), list[str]()

        async def prepare(name: str) -> None:
            await preparation.turn_on_loop(name[0])
            seen.append(name)

        def look() -> None:
            seen.append("-")
            if sum(map(len, seen)) < 60:
                asyncio.get_running_loop().call_soon(look)

        names = ("a1", "a2", "a3", "b1")
        tasks = [asyncio.create_task(prepare(name)) for name in names]
        look()
        await asyncio.gather(*tasks)
        begun = [name for name in seen if name != "-"]
        assert begun == ["a1", "a2", "b1", "a3"] or begun == ["a1", "b1", "a2", "a3"]
        assert all("-" in seen[seen.index(one) : seen.index(other)] for one, other in pairwise(begun))

    asyncio.run(play())
