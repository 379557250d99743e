from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vectors import packed_unit_vector
from service.errors import BadRequest

numbers = st.floats(width=32, min_value=-1e6, max_value=1e6).filter(lambda number: number == 0 or abs(number) > 1e-6)


def read(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


@given(st.lists(numbers, min_size=1).filter(any), st.integers(-2, 100))
def test_a_vector_has_length_one_whatever_it_is_cut_to(vector: list[float], dimensions: int):
    kept = vector[:dimensions] if dimensions > 0 else vector
    length = math.hypot(*read(packed_unit_vector(vector, dimensions)))
    assert length == pytest.approx(1 if any(kept) else 0, abs=1e-5)


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        (0, [0.6, 0.8, 0.0]),
        (-1, [0.6, 0.8, 0.0]),
        (1, [1.0]),
        (2, [0.6, 0.8]),
        (3, [0.6, 0.8, 0.0]),
        (9, [0.6, 0.8, 0]),
    ],
)
def test_only_dimensions_between_none_and_all_cut(dimensions: int, expected: list[float]):
    assert read(packed_unit_vector([3.0, 4.0, 0.0], dimensions)) == pytest.approx(expected)


def test_zeros_stay_zeros():
    assert read(packed_unit_vector([0.0, 0.0], 0)) == [0.0, 0.0]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dimensions", [0, 1])
def test_what_is_no_number_is_refused_wherever_it_stands(number: float, dimensions: int):
    with pytest.raises(BadRequest, match="embedding contains NaN or Inf values"):
        packed_unit_vector([1.0, number], dimensions)
