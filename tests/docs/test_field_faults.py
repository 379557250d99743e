"""Each row of the page of field faults names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/development/field-faults.md"
NODE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d", line)]


@cache
def names_in(path: str) -> set[str]:
    """The names of a file's tests, read without importing it."""
    tree = ast.parse((ROOT / path).read_text())
    return {each.name for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_the_names_in_a_kind_exist(row: str) -> None:
    *_, cell, _ = re.split(r"(?<!\\)\|", row)
    nodes = NODE.findall(cell)
    assert len(nodes) == len(cell.split(",")), "the cell holds node ids and nothing else"
    assert [f"{path}::{name}" for path, name in nodes if name not in names_in(path)] == []


def test_the_kinds_are_numbered_without_a_gap() -> None:
    numbers = [int(row.removeprefix("| ").partition(".")[0]) for row in ROWS]
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
