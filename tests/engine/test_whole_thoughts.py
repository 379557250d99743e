"""The rows of vLLM's bitmasks, in which the tokens that end an answer are barred while it thinks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.engine.vllm.whole_thoughts import MOST_TOKENS, WHOLE_THOUGHT, bar, must_go_on


def test_each_token_has_one_bit():
    row: Any = np.full(3, -1, dtype=np.int32)
    bar(row, {0, 31, 32, 95})
    allowed = [token for token in range(96) if row.view(np.uint32)[token // 32] >> np.uint32(token % 32) & 1]
    assert allowed == [token for token in range(96) if token not in (0, 31, 32, 95)]


def test_a_token_beyond_the_vocabulary_is_left_out():
    row: Any = np.full(1, -1, dtype=np.int32)
    bar(row, {32, 5000})
    assert row.tolist() == [-1]


@pytest.mark.parametrize(
    ("tokens", "ended", "extra", "expected"),
    [
        (0, False, {WHOLE_THOUGHT: True}, True),
        (MOST_TOKENS - 1, False, {WHOLE_THOUGHT: True}, True),
        (MOST_TOKENS, False, {WHOLE_THOUGHT: True}, False),
        (5, True, {WHOLE_THOUGHT: True}, False),
        (5, None, {WHOLE_THOUGHT: True}, False),
        (5, False, {}, False),
        (5, False, None, False),
    ],
)
def test_only_a_thought_goes_on_and_not_for_ever(tokens: int, ended: Any, extra: Any, expected: bool):
    request = SimpleNamespace(
        structured_output_request=SimpleNamespace(reasoning_ended=ended),
        sampling_params=SimpleNamespace(extra_args=extra),
        num_output_tokens=tokens,
    )
    assert must_go_on(request) is expected
