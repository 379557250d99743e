"""The rows of vLLM's bitmasks, in which the tokens that end an answer are barred while it thinks."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.engine.vllm.whole_thoughts import bar


def test_each_token_has_one_bit():
    row: Any = np.full(3, -1, dtype=np.int32)
    bar(row, {0, 31, 32, 95})
    allowed = [token for token in range(96) if row.view(np.uint32)[token // 32] >> np.uint32(token % 32) & 1]
    assert allowed == [token for token in range(96) if token not in (0, 31, 32, 95)]


def test_a_token_beyond_the_vocabulary_is_left_out():
    row: Any = np.full(1, -1, dtype=np.int32)
    bar(row, {32, 5000})
    assert row.tolist() == [-1]
