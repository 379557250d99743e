from __future__ import annotations

import pytest

from service.client import Inbox
from service.errors import EngineGone
from service.messages import Delta, Event, Failed, Finished

FINISHED, GONE = Finished(1, "stop", 1, 1, 0, 0, 0, 0), Failed(1, "EngineGone", "gone")


def inbox(*events: Event) -> Inbox:
    inbox = Inbox()
    for event in events:
        inbox.put(event)
    return inbox


def test_deltas_that_have_come_are_taken_as_one():
    assert inbox(Delta(1, 0, "a", [1]), Delta(1, 1, "b", [2])).get(0) == [Delta(1, 0, "ab", [1, 2])]


def test_an_engine_that_ends_after_its_answer_has_not_failed_it():
    assert inbox(Delta(1, 0, "a", [1]), FINISHED, GONE).get(0) == [Delta(1, 0, "a", [1]), FINISHED]


def test_an_engine_that_ends_before_has():
    (event,) = inbox(GONE).get(0)
    assert isinstance(event, Failed)
    with pytest.raises(EngineGone):
        raise event.error()


def test_silence_is_an_empty_list():
    assert inbox().get(0) == []


def test_thinking_text_and_tool_calls_keep_their_order():
    call = {"function": {"index": 0, "name": "f", "arguments": {}}}
    deltas = [
        Delta(1, 0, "", [1], thinking="a"),
        Delta(1, 1, "", [2], thinking="b"),
        Delta(1, 2, "c", [3]),
        Delta(1, 3, "", [4], tool_calls=[call]),
        Delta(1, 4, "d", [5]),
        Delta(1, 5, "", [6], thinking="e"),
    ]
    assert inbox(*deltas, FINISHED).get(0) == [
        Delta(1, 0, "c", [1, 2, 3, 4], thinking="ab", tool_calls=[call]),
        Delta(1, 4, "d", [5]),
        Delta(1, 5, "", [6], thinking="e"),
        FINISHED,
    ]
