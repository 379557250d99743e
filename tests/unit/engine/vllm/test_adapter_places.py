"""A caller uses all places for adapters but one, so that other callers' adapters don't wait for it."""

from __future__ import annotations

import asyncio

import pytest

from service.engine.vllm.adapter_places import AdapterPlaces
from tests.support.loop import in_loop, settle


class Requests:
    """Requests that use adapters until they are ended. `running` has those that have their place."""

    def __init__(self, at_once: int) -> None:
        self._places = AdapterPlaces(at_once)
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.running: list[str] = []

    async def begin(self, name: str, caller: str, adapter: str) -> None:
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name, caller, adapter))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle()

    async def _run(self, name: str, caller: str, adapter: str) -> None:
        async with self._places.place(caller, adapter):
            self.running.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)


@in_loop
async def test_a_caller_leaves_a_place_to_others():
    requests = Requests(at_once=3)
    for number in range(4):
        await requests.begin(f"a{number}", "a", f"adapter {number}")
    await requests.begin("b", "b", "another")
    assert requests.running == ["a0", "a1", "b"]
    await requests.end("a0")
    assert requests.running == ["a1", "b", "a2"]


@in_loop
async def test_an_adapter_that_the_caller_uses_already_has_its_place():
    requests = Requests(at_once=2)
    for name in ("first", "second"):
        await requests.begin(name, "a", "one")
    await requests.begin("other", "a", "two")
    assert requests.running == ["first", "second"]
    await requests.end("first")
    assert requests.running == ["second"]
    await requests.end("second")
    assert requests.running == ["other"]


@in_loop
async def test_a_request_that_leaves_while_it_waits_holds_no_place():
    requests = Requests(at_once=2)
    for name in ("runs", "leaves", "waits"):
        await requests.begin(name, "a", name)
    await requests.cancel("leaves")
    await requests.cancel("runs")
    assert requests.running == ["waits"]


@in_loop
@pytest.mark.parametrize(
    ("caller", "adapters"),
    [("", ["one", "two", "three"]), ("a", ["one", "", ""])],
    ids=["no key", "the base"],
)
async def test_requests_without_a_key_or_without_an_adapter_wait_for_nothing(caller: str, adapters: list[str]):
    requests = Requests(at_once=2)
    for place, adapter in enumerate(adapters):
        await requests.begin(str(place), caller, adapter)
    assert requests.running == ["0", "1", "2"]
