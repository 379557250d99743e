"""How many bytes of bodies a web worker reads at the same time, for one key and for all."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from service.errors import TooManyRequests, Unavailable
from service.web.body_room import BodyRoom

MOST = 100


def test_the_bodies_of_one_key_may_take_half_of_the_room():
    room = BodyRoom()
    with room.body_of("alice", MOST) as first, room.body_of("alice", MOST) as second:
        first(30)
        second(20)
        for take in (first, second):
            with pytest.raises(TooManyRequests, match="VLLM_WSGI_MAX_BODIES allows 100 for all keys, and half of"):
                take(1)
        with room.body_of("bob", MOST) as take:
            take(50)
    with room.body_of("alice", MOST) as take:
        take(50)


def test_all_bodies_may_take_all_of_it_and_give_it_back():
    room = BodyRoom()
    with ExitStack() as bodies:
        for key in ("alice", "bob", "carol"):
            bodies.enter_context(room.body_of(key, MOST))(30)
        take = bodies.enter_context(room.body_of("dave", MOST))
        take(10)
        with pytest.raises(Unavailable, match="bodies of all requests take too many bytes"):
            take(1)
    with room.body_of("dave", MOST) as take:
        take(50)


def test_a_body_that_fails_gives_its_room_back_and_0_is_no_limit():
    room = BodyRoom()
    with suppress(ValueError), room.body_of("alice", MOST) as take:
        take(50)
        raise ValueError("the body is cut")
    with room.body_of("alice", 0) as take:
        take(10 * MOST)
        with room.body_of("bob", MOST) as other, pytest.raises(Unavailable):
            other(1)
    assert not room._held
