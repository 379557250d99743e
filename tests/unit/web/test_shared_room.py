"""How much a web worker holds at the same time, for one key and for all."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from service.errors import TooManyRequests, Unavailable
from service.protocol.events import Delta, Event, TokenLogprob
from service.web.shared_room import LOGPROBS, WHOLE_ANSWERS, SharedRoom, room_for_logprobs

MOST = 100


def test_the_bodies_of_one_key_may_take_half_of_the_room():
    room = SharedRoom("the bytes of the bodies", "VLLM_WSGI_MAX_BODIES")
    with room.part_of("alice", MOST) as first, room.part_of("alice", MOST) as second:
        first(30)
        second(20)
        for take in (first, second):
            with pytest.raises(TooManyRequests, match="VLLM_WSGI_MAX_BODIES allows 100 for all keys, and half of"):
                take(1)
        with room.part_of("bob", MOST) as take:
            take(50)
    with room.part_of("alice", MOST) as take:
        take(50)


def test_all_bodies_may_take_all_of_it_and_give_it_back():
    room = SharedRoom("the bytes of the bodies", "VLLM_WSGI_MAX_BODIES")
    with ExitStack() as bodies:
        for key in ("alice", "bob", "carol"):
            bodies.enter_context(room.part_of(key, MOST))(30)
        take = bodies.enter_context(room.part_of("dave", MOST))
        take(10)
        with pytest.raises(Unavailable, match="the bytes of the bodies of all requests are too many"):
            take(1)
    with room.part_of("dave", MOST) as take:
        take(50)


def test_a_body_that_fails_gives_its_room_back_and_0_is_no_limit():
    room = SharedRoom("the bytes of the bodies", "VLLM_WSGI_MAX_BODIES")
    with suppress(ValueError), room.part_of("alice", MOST) as take:
        take(50)
        raise ValueError("the body is cut")
    with room.part_of("alice", 0) as take:
        take(10 * MOST)
        with room.part_of("bob", MOST) as other, pytest.raises(Unavailable):
            other(1)
    assert not room._held


def test_the_log_probabilities_of_whole_answers_take_room_until_these_are_made():
    alternative = TokenLogprob("a", -1.0)
    token = TokenLogprob("a", -1.0, top_logprobs=(alternative, alternative))
    batch: list[Event] = [Delta(1, 0, "a", [1], logprobs=[token]), Delta(1, 1, "a", [2])]
    # One key may have half of eight times nine: twelve tokens with three log probabilities each.
    fitting = WHOLE_ANSWERS * 9 // 2 // 3
    with room_for_logprobs("alice", 9) as held:
        assert list(held([batch] * fitting)) == [batch] * fitting
        with room_for_logprobs("alice", 9) as second:
            with pytest.raises(TooManyRequests, match="VLLM_WSGI_MAX_LOGPROBS, times 8, allows 72 for all keys"):
                list(second([batch]))
            assert list(second([[Delta(1, 0, "a", [1])]])) == [[Delta(1, 0, "a", [1])]]
        with room_for_logprobs("bob", 9) as other:
            assert len(list(other([batch] * fitting))) == fitting
    with room_for_logprobs("alice", 9) as held:
        assert len(list(held([batch]))) == 1
    assert not LOGPROBS._held
