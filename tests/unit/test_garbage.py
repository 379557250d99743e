from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from service import garbage

# 500 streams, and for each the dozen lists and records of one decode step.
OBJECTS_OF_A_STEP = 500 * 12


@pytest.fixture
def begun(own_collections: None) -> Iterator[list[int]]:
    """The generations of the collections that have begun."""
    generations: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    gc.callbacks.append(note)
    yield generations
    gc.callbacks.remove(note)


def test_no_collection_begins_for_the_objects_of_one_decode_step(begun: list[int]):
    garbage.settle()
    begun.clear()
    step: list[list[int]] = [[] for _ in range(OBJECTS_OF_A_STEP)]
    assert (len(step), begun) == (OBJECTS_OF_A_STEP, [])


def test_objects_that_refer_to_each_other_are_still_collected(begun: list[int]):
    garbage.settle()
    begun.clear()
    for _ in range(garbage.YOUNG_OBJECTS + 1000):
        circle: list[list[object]] = []
        circle.append(circle)
    assert 0 in begun
