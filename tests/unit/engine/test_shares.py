"""How many places one caller may take while others may come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.shares import TIMES, room


@pytest.mark.parametrize(
    ("places", "free", "most"), [(0, 128, 112), (112, 16, 0), (0, 16, 14), (14, 2, 0), (0, 2, 1), (0, 1, 1), (1, 1, 0)]
)
def test_each_caller_leaves_something_for_the_next(places: int, free: int, most: int):
    assert room(places, free) == most


@given(st.integers(0, 500), st.integers(0, 500))
def test_no_caller_takes_what_is_not_free_or_the_last_place_beside_others_of_its_own(places: int, free: int):
    most = room(places, free)
    assert 0 <= most <= free
    if most > 1 or (most and places):
        assert places + most <= TIMES * (free - most)
    assert most or places or not free
