"""One request in numbers, and how it ended."""

from __future__ import annotations

from service.engine_client.moves import Move, MoveCause
from service.errors import ServiceError, TooManyRequests
from service.protocol.events import Delta, Finished
from service.telemetry.request_stats import Ending, RequestStats, ending


def test_an_stats_counts_tokens_pauses_and_each_prompt_once():
    stats = RequestStats("/api/chat")
    deltas = [Delta(7, 0, "a", [1], prompt_tokens=5), Delta(7, 1, "b c", [2, 3])]
    batches = [[deltas[0]], [], [deltas[1], Finished(7, "stop", 5, 3, 0, 9, 1, 1)]]
    assert list(stats.count(batches)) == batches
    ended = stats.ended()
    assert (ended.ending, ended.prompt_tokens, ended.output_tokens, ended.queue) == ("done", 5, 3, 9)
    assert 0 < ended.pause == ended.speaking
    assert ended.first > 0


def test_a_stream_that_is_closed_before_its_end_has_lost_its_client():
    stats = RequestStats("/api/chat")
    batches = stats.count(iter([[], []]))
    next(batches)
    stats.streams()
    batches.close()  # type: ignore[attr-defined]
    assert stats.ended().ending == "client_gone"


def test_what_breaks_off_an_answer_has_not_refused_it():
    stats = RequestStats("/api/chat")
    stats.failed(TooManyRequests("text"))
    assert (stats.ending, stats.error) == (Ending.REFUSED, "TooManyRequests")
    next(stats.count(iter([[Delta(7, 0, "a", [1])]])))
    stats.failed(TooManyRequests("text"))
    assert (stats.ending, stats.error) == (Ending.ERROR, "TooManyRequests")


def test_every_error_is_an_ending():
    endings = {
        kind: ending(error("text"))
        for kind, error in ServiceError.kinds.items()
        if error.__module__ == "service.errors"
    }
    assert {kind for kind, end in endings.items() if end is Ending.ERROR} == {
        "EngineFailure", "InternalError", "EngineGone", "DeadlineExceeded", "StoreFailure", "SettingsError",
    }  # fmt: skip
    assert (endings["Drained"], endings["Unavailable"]) == (Ending.DRAINED, Ending.REFUSED)
    assert endings["ClientGone"] is endings["ClientTooSlow"] is Ending.CLIENT_GONE


class MovedStream:
    """A stream that has moved twice, and is at the second replica."""

    replica = 1
    moves = [Move(MoveCause.DIED, 1), Move(MoveCause.DRAINED, 2), Move(MoveCause.DIED, 3)]


def test_moves_are_counted_by_their_causes():
    stats = RequestStats("/api/chat")
    assert (stats.ended().moves, stats.ended().replica) == ({}, 0)
    stats.stream = MovedStream()  # type: ignore[assignment]
    assert (stats.ended().moves, stats.ended().replica) == ({"died": 2, "drained": 1}, 1)
