"""The README's table of faults, from the tests that bring them about: `python -m tests.faults.table` prints it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def fault(name: str, seen: str, back: str) -> pytest.MarkDecorator:
    """Marks a test: what is done to the server, what a client sees of it, what comes back and how."""
    return pytest.mark.fault(name=name, seen=seen, back=back)


def faults() -> list[dict[str, str]]:
    """Those of all tests here, in the order in which they stand."""
    modules = [import_module(f"{__package__}.{path.stem}") for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    tests = [test for module in modules for name, test in vars(module).items() if name.startswith("test_")]
    return [mark.kwargs for test in tests for mark in _marks(test) if mark.name == "fault"]


def _marks(test: Any) -> list[pytest.Mark]:
    return list(getattr(test, "pytestmark", []))


def table() -> str:
    rows = ["| fault | what a client sees | what comes back |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {each['name']} | {each['seen']} | {each['back']} |" for each in faults())])


if __name__ == "__main__":
    print(table())
