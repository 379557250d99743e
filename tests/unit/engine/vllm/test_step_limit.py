from __future__ import annotations

import pytest

from service.engine.vllm.step_limit import FIRST, LEAST, LONG_SECONDS, SHORT_SECONDS, StepLimit

SLOW, FAST, BETWEEN = LONG_SECONDS * 2, SHORT_SECONDS / 2, (LONG_SECONDS + SHORT_SECONDS) / 2


def after(*seconds: float, most: int = 2048) -> int:
    limit = StepLimit(most)
    for each in seconds:
        limit.took(each, limit.tokens)
    return limit.tokens


@pytest.mark.parametrize(
    ("seconds", "tokens"),
    [
        ([], FIRST),
        ([SLOW], FIRST // 2),
        ([SLOW, SLOW, FAST], FIRST // 2),
        ([BETWEEN] * 9, FIRST),
        ([SLOW] * 99, LEAST),
        ([FAST] * 99, 2048),
    ],
)
def test_a_step_gets_shorter_while_steps_are_long_and_longer_while_they_are_short(seconds: list[float], tokens: int):
    assert after(*seconds) == tokens


def test_an_engine_that_takes_few_tokens_gets_no_more():
    assert [after(most=16), after(FAST, most=16), after(SLOW, most=16)] == [16, 16, 16]


def test_a_step_with_few_tokens_of_prompts_teaches_nothing():
    limit = StepLimit(2048)
    limit.took(SLOW, FIRST // 2 - 1)
    limit.took(FAST, 1)
    assert limit.tokens == FIRST


def test_a_step_that_callers_share_has_half_of_the_tokens_and_is_judged_by_them():
    limit = StepLimit(2048)
    assert [limit.shared_by(callers) for callers in (0, 1, 2, 9)] == [FIRST, FIRST, FIRST // 2, FIRST // 2]
    limit.took(BETWEEN, limit.shared_by(2))
    assert limit.tokens == FIRST // 2
    limit.took(FAST / 2, limit.shared_by(2))
    assert limit.tokens == FIRST


def test_the_last_part_of_a_prompt_may_take_as_long_as_a_whole_step():
    """Else a burst of one caller's short prompts would have ever smaller steps."""
    limit = StepLimit(2048)
    limit.took(LONG_SECONDS * 0.9, FIRST * 2 // 3)
    assert limit.tokens == FIRST


@pytest.mark.parametrize("most", [16, LEAST])
def test_a_step_that_callers_share_has_the_least_of_the_tokens_at_the_least(most: int):
    assert StepLimit(most).shared_by(2) == most
