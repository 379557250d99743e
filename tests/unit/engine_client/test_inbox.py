from __future__ import annotations

import threading

import pytest

from service.engine_client import inbox as module
from service.engine_client.inbox import Inbox
from service.errors import ClientGone
from service.protocol.events import Delta, Event, Failed, Finished, TokenLogprob

FINISHED = Finished(1, "stop", 1, 1, 0, 0, 0, 0)


def inbox(*events: Event) -> Inbox:
    inbox = Inbox(1)
    for event in events:
        inbox.put(event)
    return inbox


def test_deltas_of_different_answers_are_never_joined():
    events = [Delta(1, 0, "a", [1]), Delta(1, 0, "x", [9], index=1), Delta(1, 1, "b", [2])]
    assert inbox(*events).get(0) == [Delta(1, 0, "ab", [1, 2]), Delta(1, 0, "x", [9], index=1)]


def test_deltas_that_have_come_are_taken_as_one():
    assert inbox(Delta(1, 0, "a", [1]), Delta(1, 1, "b", [2])).get(0) == [Delta(1, 0, "ab", [1, 2])]


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


def test_an_inbox_stalls_only_when_it_is_full_and_its_first_delta_has_waited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "INBOX_DELTAS", 2)
    full = inbox(*(Delta(1, seq, "a", [seq]) for seq in range(3)))
    assert not full.stalls()
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.0)
    assert full.stalls()
    full.get(None)
    assert not full.stalls()


def test_log_probabilities_fill_an_inbox_as_deltas_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "INBOX_DELTAS", 4)
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.0)
    scored = TokenLogprob("a", -1.0, top_logprobs=(TokenLogprob("b", -2.0),))
    full = inbox(Delta(1, 0, "a", [1], logprobs=[scored]))
    assert not full.stalls()
    full.put(Delta(1, 1, "a", [1], logprobs=[scored]))
    assert full.stalls()
    full.get(None)
    full.put(Delta(1, 2, "a", [1], logprobs=[scored]))
    assert not full.stalls()


def test_one_who_waits_is_woken_by_what_comes():
    empty = inbox()
    threading.Timer(0.05, empty.put, [FINISHED]).start()
    assert empty.get() == [FINISHED]


def test_a_ring_ends_one_wait_and_no_more():
    rung = inbox()
    rung.ring()
    assert rung.get() == []
    threading.Timer(0.05, rung.put, [FINISHED]).start()
    assert rung.get() == [FINISHED]


def test_what_comes_while_somebody_takes_is_taken_by_the_next():
    busy = inbox()
    threading.Thread(target=lambda: [busy.put(Delta(1, seq, "a", [seq])) for seq in range(20_000)]).start()
    taken: list[int] = []
    while len(taken) < 20_000:
        taken += [token for event in busy.get() if isinstance(event, Delta) for token in event.token_ids]
    assert taken == list(range(20_000))


def test_a_failure_takes_the_place_of_all_that_has_come():
    failed = Failed(1, "ClientTooSlow", "too slow")
    full = inbox(Delta(1, 0, "a", [1]))
    full.fail(failed)
    assert full.get() == [failed]


def test_nothing_is_told_to_a_client_that_has_left():
    left = inbox(FINISHED)
    left.client_left()
    with pytest.raises(ClientGone):
        left.get()
