"""The limits of a key, and the bills that count against them: no engine, no time, no network."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.backend import check_prompt, check_scored
from service.engine.worker.admission import Account, Bill, Bucket
from service.errors import BadRequest, TooManyRequests
from service.protocol.events import Delta, Event, Finished, Vectors
from service.protocol.request import Caller, Request, Text
from tests.support.loop import Clock


def finished(prompt_tokens: int, index: int = 0) -> Finished:
    return Finished(1, "stop", prompt_tokens, 99, 0, 0, 0, 0, index=index)


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 500)), min_size=1),
)
def test_a_bucket_gives_its_rate_one_minute_in_advance_and_the_last_request(
    rate: int, requests: list[tuple[float, int]]
):
    clock = Clock()
    bucket, taken = Bucket(rate, clock), 0
    for pause, tokens in requests:
        clock.now += pause
        if bucket.debt_seconds() == 0:
            bucket.take(tokens)
            taken += tokens
    largest = max(tokens for _, tokens in requests)
    assert taken <= rate + clock.now * rate / 60 + largest + 1e-6


@given(st.integers(1, 1000), st.lists(st.integers(0, 10_000)))
def test_a_debt_is_over_after_as_long_as_it_says(rate: int, uses: list[int]):
    clock = Clock()
    bucket = Bucket(rate, clock)
    for tokens in uses:
        bucket.take(tokens)
    seconds = bucket.debt_seconds()
    assert seconds == pytest.approx(max(0, sum(uses) - rate) * 60 / rate)
    clock.now += math.ceil(seconds)
    assert bucket.debt_seconds() == pytest.approx(0, abs=1e-6)


def test_what_is_not_used_is_saved_up_for_a_minute():
    clock = Clock()
    bucket = Bucket(60, clock)
    clock.now += 3600
    bucket.take(61)
    assert bucket.debt_seconds() == pytest.approx(1)


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        ([Delta(1, 0, "x", [1] * 3), Delta(1, 3, "x", [1] * 2)], 5),
        ([Delta(1, 0, "x", [1], prompt_tokens=10), finished(10)], 11),
        ([Delta(1, 0, "x", [1], prompt_tokens=10), Delta(1, 0, "x", [1], prompt_tokens=10, index=1)], 12),
        ([finished(10), finished(10, index=1)], 10),
        ([Vectors(1, [b""], 10), Vectors(1, [b""], 10)], 20),
    ],
)
def test_output_and_the_prompt_are_on_the_bill_and_the_prompt_once(events: list[Event], tokens: int):
    clock = Clock()
    bucket = Bucket(1, clock)
    bill = Bill(bucket)
    for event in events:
        bill.add(event)
    assert bucket.debt_seconds() == (tokens - 1) * 60


def test_who_has_used_up_his_tokens_is_told_when_he_has_some_again():
    account, caller = Account(), Caller("a", tokens_per_minute=60)
    account.enter(caller).add(Delta(1, 0, "x", [1] * 60))
    account.enter(caller).add(Delta(1, 0, "x", [1] * 3))
    with pytest.raises(TooManyRequests, match='key "a" has used up its 60 tokens a minute') as caught:
        account.enter(caller)
    assert caught.value.retry_after == 3


def test_another_rate_begins_anew():
    account, spent = Account(), Delta(1, 0, "x", [1] * 1000)
    account.enter(Caller("a", tokens_per_minute=1)).add(spent)
    with pytest.raises(TooManyRequests):
        account.enter(Caller("a", tokens_per_minute=1))
    account.enter(Caller("a", tokens_per_minute=2)).add(spent)
    with pytest.raises(TooManyRequests) as caught:
        account.enter(Caller("a", tokens_per_minute=2))
    # Of the 1,000 tokens, two were to hand. What was spent at the former rate does not count.
    assert caught.value.retry_after == 998 * 30
    account.enter(Caller("a")).add(spent)
    account.enter(Caller("a"))


def test_what_is_left_makes_room_for_what_comes():
    account, caller = Account(), Caller("a", max_concurrent=2)
    account.enter(caller)
    account.enter(caller)
    with pytest.raises(TooManyRequests, match='key "a" has 2 requests running or waiting'):
        account.enter(caller)
    account.leave()
    account.enter(caller)


@pytest.mark.parametrize(("limit", "tokens", "fits"), [(0, 9999, True), (5, 5, True), (5, 6, False)])
def test_a_prompt_over_its_limit_is_refused(limit: int, tokens: int, fits: bool):
    caller = Caller("a", max_prompt_tokens=limit)
    if fits:
        check_prompt(caller, tokens)
    else:
        with pytest.raises(BadRequest, match="the prompt has 6 tokens, and may have 5"):
            check_prompt(caller, tokens)


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        (Request("m", Text("a"), echo=True, logprobs=0, scored_tokens=5), False),
        (Request("m", Text("a"), echo=True, logprobs=0, scored_tokens=6), True),
        (Request("m", Text("a"), echo=True, logprobs=0), True),
        (Request("m", Text("a"), echo=True, scored_tokens=5), True),
        (Request("m", Text("a"), logprobs=0, scored_tokens=5), True),
    ],
)
def test_only_a_prompt_that_is_scored_has_this_bound(request_: Request, fits: bool):
    if fits:
        check_scored(request_, 6)
    else:
        with pytest.raises(BadRequest, match="the prompt has 6 tokens, and with echo and logprobs it may have 5"):
            check_scored(request_, 6)
