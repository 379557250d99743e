from __future__ import annotations

import pytest

from service.engine_client.moves import MOST_UNREACHED, MoveCause, Moves
from service.errors import EngineFailure, EngineGone, ServiceError, Unavailable
from service.protocol.commands import Submit
from service.protocol.events import Delta, Failed, Finished
from service.protocol.request import Request, Sampling, SoFar, Text

DEAD = Failed(1, "EngineGone", "the engine died")
CRASHED = Failed.of(1, EngineGone("the engine died", crashed=True))
DRAINED = Failed(1, "Drained", "the engine is going down")
FINISHED = Finished(1, "stop", 1, 1, 0, 0, 0, 0)


def moves(limit: int = 2, n: int = 1, seed: int | None = None) -> Moves:
    return Moves([Submit(1, Request("demo", Text("hi"), Sampling(seed=seed), n=n, request_id="r"))], limit)


def delta(*token_ids: int, index: int = 0, text: str = "", thinking: str = "") -> Delta:
    return Delta(1, 0, text, list(token_ids), thinking=thinking, index=index)


def begins(moved: Moves, failed: Failed) -> type[ServiceError] | None:
    try:
        moved.begin(failed, "/dead.sock")
    except ServiceError as error:
        return type(error)
    return None


def test_the_rest_of_an_answer_is_asked_for_with_what_the_client_has():
    moved = moves()
    moved.add(delta(5, 6, text="ab", thinking="c"))
    moved.add(delta(7, text="d"))
    [(index, answer)] = moved.left()
    assert (index, answer.rest().so_far) == (0, SoFar([5, 6, 7], 3, 1, 0))


def test_an_answer_of_which_nothing_has_come_is_asked_for_anew():
    [(_, answer)] = moves().left()
    assert answer.rest().so_far is None


def test_an_answer_that_has_ended_is_not_asked_for_again():
    moved = moves(n=2)
    moved.add(FINISHED)
    assert [index for index, _ in moved.left()] == [1]


def test_each_of_several_answers_keeps_its_seed():
    rests = [answer.rest() for _, answer in moves(n=3, seed=7).left()]
    assert [(rest.n, rest.sampling.seed) for rest in rests] == [(1, 7), (1, 8), (1, 9)]


def test_answers_without_a_seed_stay_without():
    assert {answer.rest().sampling.seed for _, answer in moves(n=2).left()} == {None}


def test_a_stream_that_may_not_move_fails_as_its_engine_did():
    assert begins(moves(limit=0), DEAD) is EngineGone


@pytest.mark.parametrize("kind", ["EngineFailure", "BadRequest", "ClientTooSlow", "TooManyRequests"])
def test_any_other_failure_is_the_answer(kind: str):
    assert begins(moves(), Failed(1, kind, "no")) is not None


def test_a_request_that_was_there_at_two_crashes_without_a_token_between_is_given_up(caplog: pytest.LogCaptureFixture):
    moved = moves(limit=5)
    moved.add(delta(1))
    assert [begins(moved, CRASHED), begins(moved, DEAD), begins(moved, CRASHED)] == [None, None, EngineFailure]
    assert "request r is given up" in caplog.text


@pytest.mark.parametrize("failed", [DEAD, CRASHED])
def test_crashes_with_tokens_between_them_and_kills_count_up_to_the_limit(failed: Failed):
    moved = moves(limit=2)
    ends = []
    for _ in range(3):
        if failed is CRASHED:
            moved.add(delta(1))
        ends.append(begins(moved, failed))
    assert ends == [None, None, EngineFailure]


def test_an_engine_that_is_told_to_end_is_no_death():
    moved = moves(limit=1)
    assert [begins(moved, DRAINED) for _ in range(4)] == [None] * 4
    assert ([move.cause.value for move in moved.made], len(moved.lost)) == (["drained"] * 4, 4)


def test_an_engine_that_was_not_reached_is_no_death_of_the_request_and_not_tried_for_ever():
    moved = moves(limit=2)
    for _ in range(MOST_UNREACHED):
        moved.begin(DEAD, "/dead.sock", reached=False)
    assert {move.cause for move in moved.made} == {MoveCause.UNREACHED}
    assert begins(moved, DEAD) is None
    with pytest.raises(EngineGone):
        moved.begin(DEAD, "/dead.sock", reached=False)


def test_unavailable_is_no_death():
    assert begins(moves(), Failed.of(1, Unavailable("no room"))) is Unavailable
