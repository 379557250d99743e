"""How long the last minute's requests waited."""

from __future__ import annotations

from service.engine.host.recent_medians import WINDOW_SECONDS, RecentMedians
from service.protocol.commands import RequestOutcome
from tests.support.loop import Clock

SECOND = 10**9


def answered(first: float, queue: float = 0.0) -> RequestOutcome:
    return RequestOutcome("/api/chat", "done", first=int(first * SECOND), queue=int(queue * SECOND), output_tokens=3)


def test_the_medians_are_in_seconds_and_those_of_one_model():
    medians = RecentMedians(Clock())
    for first in (1.0, 2.0, 9.0):
        medians.add(answered(first, queue=first / 2), "a")
    medians.add(answered(100), "b")
    assert medians.of("a") == (2.0, 1.0)


def test_without_requests_there_are_none():
    medians = RecentMedians(Clock())
    medians.add(RequestOutcome("/api/chat", "refused", first=5), "a")
    assert medians.of("a") == medians.of("b") == (None, None)


def test_older_requests_do_not_count():
    clock = Clock()
    medians = RecentMedians(clock)
    medians.add(answered(9), "a")
    clock.now += WINDOW_SECONDS + 1
    medians.add(answered(1), "a")
    assert medians.of("a") == (1.0, None)


def test_a_model_that_is_deleted_is_forgotten():
    medians = RecentMedians(Clock())
    medians.add(answered(9), "a")
    medians.forget("a")
    assert medians.of("a") == (None, None)
