from __future__ import annotations

from tests.faults.table import FAULTS, Survived


def test_a_fault_has_a_row_when_every_test_of_it_has_passed() -> None:
    survived, (first, second, *_) = Survived(), FAULTS
    survived.add(first, "vLLM", passed=True)
    survived.add(first, "scripted engine", passed=False)
    survived.add(second, "vLLM", passed=True)
    assert survived.faults() == [second]
    assert survived.table().splitlines()[2:] == [f"| {' | '.join([second, *FAULTS[second], 'vLLM'])} |"]
