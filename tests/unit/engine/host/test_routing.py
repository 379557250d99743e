from __future__ import annotations

from service.engine.host import routing
from service.engine.host.routing import MORE_SEQUENCES, Router


def test_a_request_goes_where_there_is_the_least_to_do():
    assert Router().choose("", {"a": 3, "b": 1, "c": 2}) == "b"


def test_a_conversation_goes_where_its_last_turn_went():
    router = Router()
    assert router.choose("x", {"a": 1, "b": 0}) == "b"
    assert router.choose("x", {"a": 0, "b": MORE_SEQUENCES}) == "b"
    assert router.choose("y", {"a": 0, "b": MORE_SEQUENCES}) == "a"


def test_a_conversation_leaves_a_replica_that_has_much_more_to_do_and_stays_where_it_went():
    router = Router()
    router.choose("x", {"a": 1, "b": 0})
    assert router.choose("x", {"a": 0, "b": MORE_SEQUENCES + 1}) == "a"
    assert router.choose("x", {"a": 1, "b": 0}) == "a"


def test_among_many_requests_a_share_of_them_is_not_much_more():
    router = Router()
    router.choose("x", {"a": 101, "b": 100})
    assert router.choose("x", {"a": 100, "b": 125}) == "b"
    assert router.choose("x", {"a": 100, "b": 126}) == "a"


def test_a_replica_that_is_gone_is_not_waited_for():
    router = Router()
    router.choose("x", {"a": 1, "b": 0})
    assert router.choose("x", {"a": 1}) == "a"


def test_the_conversation_that_was_quiet_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(routing, "MOST_BEGINNINGS", 2)
    router = Router()
    for beginning in ("x", "y", "x", "z"):
        router.choose(beginning, {"a": 1, "b": 0})
    chosen = {beginning: router.choose(beginning, {"a": 0, "b": 1}) for beginning in ("x", "z")}
    assert chosen == {"x": "b", "z": "b"}
    assert router.choose("y", {"a": 0, "b": 1}) == "a"
