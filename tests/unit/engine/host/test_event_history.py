"""Which events an observer gets: after a mark, of the last seconds, and when some are no longer kept."""

from __future__ import annotations

import pytest

from service.engine.host import event_history as module
from service.engine.host.event_history import KEPT_SECONDS, MOST_REQUESTS, THINNED_SECONDS, EventHistory
from service.protocol.commands import RequestOutcome
from service.protocol.live import LiveEvent, LiveSnapshot
from tests.support.loop import Clock

ALL = 10_000


def snapshot(time: float) -> LiveSnapshot:
    return LiveSnapshot(time)


def outcome(route: str) -> RequestOutcome:
    return RequestOutcome(route, "done")


def names(events: list[LiveEvent]) -> list[object]:
    return [each.request.route if each.request else each.snapshot and each.snapshot.time for each in events]


class Recorded:
    """A history, and the clock that it goes by."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.history = EventHistory(self.clock)

    def snapshots(self, *times: float, is_change: bool = False) -> None:
        for time in times:
            self.clock.now = 1000.0 + time
            self.history.add_snapshot(snapshot(time), is_change)

    def request(self, route: str) -> None:
        self.history.add_request(outcome(route))

    def names(self, after: str = "", seconds: float = 0.0, most: int = ALL) -> list[object]:
        return names(self.history.events(after, seconds, most))

    def mark(self, name: object) -> str:
        return next(each.mark for each in self.history.events("", KEPT_SECONDS, ALL) if names([each]) == [name])


def test_a_new_observer_gets_the_newest_snapshot_alone():
    recorded = Recorded()
    recorded.snapshots(0, 10)
    recorded.request("/api/chat")
    recorded.snapshots(20)
    recorded.clock.now += 2
    assert recorded.names() == [20]


def test_the_events_of_the_last_seconds_come_in_their_order():
    recorded = Recorded()
    recorded.snapshots(0, 10)
    recorded.request("a")
    recorded.snapshots(20)
    recorded.request("b")
    assert recorded.names(seconds=10) == [10, "a", 20, "b"]
    assert recorded.names(seconds=11, most=3) == [10, "a", 20]


def test_an_observer_that_comes_back_gets_what_is_newer_than_its_mark():
    recorded = Recorded()
    recorded.snapshots(0)
    recorded.request("a")
    mark = recorded.mark("a")
    assert recorded.names(mark) == []
    recorded.request("b")
    recorded.snapshots(10)
    assert recorded.names(mark) == ["b", 10]


def test_of_snapshots_without_a_change_one_in_a_while_is_kept_and_the_newest():
    recorded = Recorded()
    recorded.snapshots(*range(13))
    assert recorded.names(seconds=KEPT_SECONDS) == [0, THINNED_SECONDS, 2 * THINNED_SECONDS, 12]


def test_a_snapshot_that_shows_a_change_is_kept():
    recorded = Recorded()
    recorded.snapshots(0, 1)
    recorded.snapshots(1.5, is_change=True)
    recorded.snapshots(2, 3)
    assert recorded.names(seconds=KEPT_SECONDS) == [0, 1.5, 3]


def test_the_mark_of_a_snapshot_that_was_thinned_out_still_holds():
    recorded = Recorded()
    recorded.snapshots(0, 1)
    mark = recorded.mark(1)
    recorded.snapshots(2)
    assert recorded.names(mark) == [2]


def test_old_events_are_dropped():
    recorded = Recorded()
    recorded.snapshots(0)
    recorded.request("a")
    recorded.snapshots(KEPT_SECONDS + 1)
    assert recorded.names(seconds=2 * KEPT_SECONDS) == [KEPT_SECONDS + 1]


def test_the_newest_requests_of_a_busy_server_are_kept():
    recorded = Recorded()
    for number in range(MOST_REQUESTS + 3):
        recorded.request(str(number))
    routes = recorded.names(seconds=KEPT_SECONDS)
    assert len(routes) == MOST_REQUESTS
    assert routes[0] == "3"


@pytest.mark.parametrize("mark", ["x", "-", "other-1", "-1", "{run}-", "{run}-99", "{run}-٣", "{run}-" + "9" * 5000])
def test_with_a_mark_that_is_not_known_all_events_come(mark: str):
    recorded = Recorded()
    recorded.snapshots(0)
    run = recorded.mark(0).partition("-")[0]
    recorded.snapshots(10)
    assert recorded.names(mark.replace("{run}", run)) == [0, 10]


def test_with_the_mark_of_an_event_after_which_others_were_dropped_all_events_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_REQUESTS", 2)
    recorded = Recorded()
    recorded.request("a")
    mark = recorded.mark("a")
    recorded.snapshots(0)
    for route in "bcd":
        recorded.request(route)
    assert recorded.names(mark) == [0, "c", "d"]
