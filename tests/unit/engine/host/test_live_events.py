"""Observers of a host: what they get, when, and what it costs when there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from service.engine.host import live_events as module
from service.engine.host.live_events import LiveEvents
from service.protocol.commands import Observe, RequestOutcome
from service.protocol.events import Event, Observed
from service.protocol.live import EngineStatus, HostState, LiveEvent, ModelStatus
from service.protocol.model_info import EngineState
from tests.support.loop import Clock, in_loop, settle


class Shown:
    """Live events over a model whose state the test sets; snapshots are taken when the test says so."""

    def __init__(self) -> None:
        self.state = EngineState.READY
        self.clock = Clock()
        self.reads = 0
        self.live = LiveEvents(self._read, self.clock)
        self.taking = asyncio.create_task(self.live.take_snapshots())

    def _read(self) -> tuple[HostState, str, list[ModelStatus]]:
        self.reads += 1
        return HostState.READY, "", [ModelStatus(name="m:latest", replicas=[EngineStatus(state=self.state)])]

    def enter(self, state: EngineState) -> None:
        self.state = state
        self.live.changed()

    def observe(self, after: str = "", seconds: float = 0.0) -> asyncio.Task[list[LiveEvent]]:
        return asyncio.create_task(self._observed(self.live.handlers[Observe](Observe(1, after, seconds))))

    async def _observed(self, answer: AsyncGenerator[Event, None]) -> list[LiveEvent]:
        (event,) = [event async for event in answer]
        assert isinstance(event, Observed)
        return event.events


def states(events: list[LiveEvent]) -> list[str]:
    return [str(each.snapshot.models[0].replicas[0].state) for each in events if each.snapshot]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are gathered for no time, and snapshots come at changes alone."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(module, "SNAPSHOT_SECONDS", 3600.0)
    monkeypatch.setattr(module, "THINNED_SECONDS", 3600.0)


@in_loop
async def test_an_observer_gets_the_state_of_this_moment_and_then_each_change():
    shown = Shown()
    await settle()
    shown.clock.now += 1
    shown.state = EngineState.UNLOADING
    first = await shown.observe()
    assert states(first) == ["unloading"]
    following = shown.observe(first[-1].mark)
    await settle()
    assert not following.done()
    shown.enter(EngineState.IDLE)
    assert states(await following) == ["idle"]


@in_loop
async def test_an_observer_gets_the_requests_that_have_ended_and_their_medians():
    shown = Shown()
    mark = (await shown.observe())[-1].mark
    outcome = RequestOutcome("/api/chat", "done", model="m", first=2 * 10**9, output_tokens=1)
    shown.live.count(outcome, "m:latest")
    (event,) = await shown.observe(mark)
    assert event.request == outcome
    shown.live.changed()
    (event,) = await shown.observe(event.mark)
    assert event.snapshot is not None
    assert event.snapshot.models[0].first_token_seconds == 2.0


@in_loop
async def test_many_events_come_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_EVENTS", 2)
    shown = Shown()
    mark = (await shown.observe())[-1].mark
    for route in "abc":
        shown.live.count(RequestOutcome(route, "done"), "")
    first = await shown.observe(mark)
    second = await shown.observe(first[-1].mark)
    assert [[each.request.route for each in part if each.request] for part in (first, second)] == [["a", "b"], ["c"]]


@in_loop
async def test_two_observers_get_the_same():
    shown = Shown()
    mark = (await shown.observe())[-1].mark
    both = [shown.observe(mark) for _ in range(2)]
    await settle()
    shown.enter(EngineState.RESTARTING)
    one, other = await asyncio.gather(*both)
    assert one == other


@in_loop
async def test_without_observers_snapshots_are_as_rare_as_the_history_keeps_them(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float | None] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> asyncio.Timeout:
        pauses.append(seconds)
        return timeout(None)

    monkeypatch.setattr(module, "SNAPSHOT_SECONDS", 1.0)
    monkeypatch.setattr(module, "THINNED_SECONDS", 5.0)
    monkeypatch.setattr(asyncio, "timeout", noted)
    shown = Shown()
    await settle()
    first = shown.observe()
    await settle()
    mark = first.result()[-1].mark
    observing = shown.observe(mark)
    await settle()
    shown.enter(EngineState.UNLOADING)
    await settle()
    assert observing.done()
    shown.clock.now += 10
    shown.enter(EngineState.IDLE)
    await settle()
    assert pauses == [5.0, 1.0, 1.0, 5.0]
    assert shown.reads == 4


@in_loop
async def test_an_observer_that_leaves_is_not_counted_any_more():
    shown = Shown()
    mark = (await shown.observe())[-1].mark
    observing = shown.observe(mark)
    await settle()
    assert shown.live._observers == 1
    observing.cancel()
    await settle()
    assert shown.live._observers == 0
