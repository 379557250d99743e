"""How the tests of faults tell a leak from what an allocator keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.load import MEMORY, ROUNDS, Holdings, MemoryGrew, leaks_nothing
from tests.soak import MEMORY as SOAK_MEMORY
from tests.soak import Sample, grown


def grows_in(rounds: int) -> tuple[list[int], Callable[..., None]]:
    seen: list[int] = []

    @leaks_nothing
    def test() -> None:
        seen.append(len(seen))
        if len(seen) <= rounds:
            raise MemoryGrew(str(MEMORY))

    return seen, test


@pytest.mark.parametrize("rounds", range(ROUNDS))
def test_memory_that_is_taken_in_the_first_rounds_is_not_a_leak(rounds: int) -> None:
    seen, test = grows_in(rounds)
    test()
    assert len(seen) == rounds + 1


def test_memory_that_is_taken_in_each_round_is_a_leak() -> None:
    seen, test = grows_in(ROUNDS)
    with pytest.raises(MemoryGrew):
        test()
    assert len(seen) == ROUNDS


def samples(*growth: int) -> list[Sample]:
    return [Sample(10, Holdings(10, 10, sum(growth[: count + 1])), 5, 0) for count in range(len(growth))]


def test_a_soak_tells_a_leak_from_one_round_that_took_memory() -> None:
    step = SOAK_MEMORY // 2
    assert grown(samples(step, 0, step, step, step)) == ["memory"]
    assert grown(samples(step, 0, 3 * step, 0, 0)) == []
