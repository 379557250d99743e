from __future__ import annotations

import pytest

from service.engine.host.backoff import HEALTHY_SECONDS, LOAD_ATTEMPTS, PAUSES, Backoff
from tests.support.loop import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pauses(backoff: Backoff, *lives: float | None) -> list[float]:
    """The pause after each of the workers, which lived for that many seconds."""
    found = []
    for lived in lives:
        backoff.failed(lived)
        found.append(backoff.pause)
    return found


def test_before_the_first_failure_there_is_no_pause(clock: Clock):
    assert Backoff(clock).pause == 0


def test_each_failure_in_a_row_pauses_longer_up_to_the_last(clock: Clock):
    assert pauses(Backoff(clock), *[None] * 8) == [*PAUSES, PAUSES[-1], PAUSES[-1]]


def test_a_worker_that_died_soon_after_it_was_ready_counts_as_a_failure(clock: Clock):
    assert pauses(Backoff(clock), None, 5.0, HEALTHY_SECONDS) == list(PAUSES[:3])


def test_a_worker_that_was_well_for_long_is_started_again_at_once(clock: Clock):
    assert pauses(Backoff(clock), None, HEALTHY_SECONDS + 1, None) == [PAUSES[0], 0, PAUSES[0]]


def test_the_pause_passes(clock: Clock):
    backoff = Backoff(clock)
    backoff.failed(None)
    clock.now += PAUSES[0] / 4
    assert backoff.pause == PAUSES[0] * 3 / 4
    clock.now += 10
    assert backoff.pause == 0


def test_several_failed_loads_in_a_row_give_up(clock: Clock):
    backoff = Backoff(clock)
    given_up = []
    for _ in range(LOAD_ATTEMPTS):
        backoff.failed(None)
        given_up.append(backoff.gives_up)
    assert given_up == [False] * (LOAD_ATTEMPTS - 1) + [True]


@pytest.mark.parametrize("lived", [0.1, HEALTHY_SECONDS + 1])
def test_a_worker_that_was_ready_does_not_count_as_a_failed_load(clock: Clock, lived: float):
    backoff = Backoff(clock)
    pauses(backoff, *[None] * LOAD_ATTEMPTS, lived)
    assert not backoff.gives_up


def test_a_load_that_succeeds_ends_the_pause_and_what_was_given_up(clock: Clock):
    backoff = Backoff(clock)
    pauses(backoff, *[None] * LOAD_ATTEMPTS)
    backoff.loaded()
    assert (backoff.pause, backoff.gives_up) == (0, False)
    backoff.failed(None)
    assert not backoff.gives_up


def test_a_bar_is_the_longest_pause(clock: Clock):
    backoff = Backoff(clock)
    backoff.bar()
    assert backoff.pause == PAUSES[-1]
