from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.float32 import shortest, widened

floats = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def packed(numbers: list[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def digits(number: float) -> int:
    """The significant digits that the number prints."""
    return len(repr(number).partition("e")[0].replace(".", "").lstrip("-0").rstrip("0"))


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0.1, "0.1"),
        (-0.1, "-0.1"),
        (1 / 3, "0.33333334"),
        (2 / 3, "0.6666667"),
        (math.sqrt(0.5), "0.70710677"),
        (0.123456789, "0.12345679"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (1e-6, "1e-06"),
    ],
)
def test_a_number_prints_as_go_prints_its_float32(number: float, printed: str):
    assert [repr(each) for each in shortest(packed([number]))] == [printed]


@given(st.lists(floats))
def test_fewer_digits_are_still_the_same_numbers(numbers: list[float]):
    assert packed(shortest(packed(numbers))) == packed(numbers)


@given(st.floats(width=32, min_value=2.0**-20, max_value=1))
def test_no_number_prints_more_than_nine_digits_and_none_with_fewer_is_the_same(number: float):
    (short,) = shortest(packed([number]))
    assert digits(short) <= 9
    fewer = float(f"{number:.{max(1, digits(short) - 1)}g}")
    assert digits(short) == 1 or packed([fewer]) != packed([number])


@given(st.lists(floats))
def test_widened_numbers_are_the_very_numbers(numbers: list[float]):
    assert widened(packed(numbers)) == numbers
