"""Where models are as long as an answer holds, and where they were last while the engine host can't be reached."""

from __future__ import annotations

from functools import partial

import pytest

from service.engine_client.locations import KNOWN_SECONDS, MOST_HELD, Locations
from service.protocol.events import Located

CONTROL, WORKER = "tls://gpu1:7433", "tls://gpu1:7434"


class World:
    """Which connections are open, and what time it is."""

    def __init__(self) -> None:
        self.open = {CONTROL, WORKER}
        self.now = 0.0
        self.locations = Locations(CONTROL, self.open.__contains__, lambda: self.now)
        self.locations.add("m", Located(1, WORKER, 5))


@pytest.fixture
def world() -> World:
    return World()


def test_a_host_is_away_while_there_is_no_connection_to_it(world: World):
    assert not world.locations.is_host_away
    world.open.remove(CONTROL)
    assert world.locations.is_host_away


def test_a_model_is_where_it_was_last(world: World):
    assert world.locations.last("m", []) == Located(1, WORKER, 5)
    assert world.locations.models() == ["m"]
    assert world.locations.last("other", []) is None


def test_an_engine_that_is_lost_or_not_connected_is_not_named(world: World):
    assert world.locations.last("m", [WORKER]) is None
    world.open.remove(WORKER)
    assert world.locations.last("m", []) is None
    assert world.locations.models() == []


def test_an_engine_behind_a_unix_socket_ends_with_its_host(world: World):
    world.open.add("/run/worker-1.sock")
    world.locations.add("local", Located(1, "/run/worker-1.sock", 5))
    assert world.locations.last("local", []) is None


def test_what_was_known_is_forgotten_after_a_while(world: World):
    world.now = KNOWN_SECONDS
    assert world.locations.last("m", []) is None


def test_an_answer_that_holds_is_used_until_its_time_is_over_or_its_connection_is(world: World):
    assert world.locations.holding("m") is None
    located = Located(1, WORKER, 5, holds=1.0)
    world.locations.add("m", located)
    assert world.locations.holding("m") == located
    assert world.locations.holding("other") is None
    world.now = 1.0
    assert world.locations.holding("m") is None
    world.locations.add("m", located)
    world.open.remove(WORKER)
    assert world.locations.holding("m") is None


def test_a_location_that_was_wrong_is_asked_for_again(world: World):
    world.locations.add("m", Located(1, WORKER, 5, holds=1.0))
    world.locations.forget("m")
    assert world.locations.holding("m") is None


def test_many_spellings_of_a_name_take_no_memory_for_long(world: World):
    for number in range(10 * MOST_HELD):
        world.now += 0.1
        world.locations.add(f"m{number}", Located(1, WORKER, 5, holds=1.0))
    assert len(world.locations._holding) <= MOST_HELD
    assert world.locations.holding(f"m{10 * MOST_HELD - 1}") is not None


def test_a_question_wakes_the_requests_that_wait_for_its_answer_once(world: World):
    world.locations.add("m", Located(1, WORKER, 5, holds=1.0))
    woken = list[str]()
    assert not world.locations.await_answer("m", partial(woken.append, "a"))
    world.locations.begin_question("m")
    assert world.locations.await_answer("m", partial(woken.append, "b"))
    assert not world.locations.await_answer("other", partial(woken.append, "c"))
    assert woken == []
    world.locations.end_question("m")
    world.locations.end_question("m")
    assert woken == ["b"]


def test_no_request_waits_for_an_answer_that_may_take_long(world: World):
    """The model is being loaded, or its engine worker has exited."""
    world.locations.begin_question("m")
    assert not world.locations.await_answer("m", list[str]().clear)
    world.locations.add("m", Located(1, WORKER, 5, holds=1.0))
    world.open.remove(WORKER)
    assert not world.locations.await_answer("m", list[str]().clear)
