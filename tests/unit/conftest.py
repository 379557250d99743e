"""A unit test starts no process and no server: the folder decides, and this file enforces it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.keys import write_keys

# The property tests were half of the unit tests' time. CI runs them in full.
settings.register_profile("quick", settings.get_profile("busy"), max_examples=20)


@pytest.fixture(autouse=True)
def starts_no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a test fail that starts a process, unless it is marked as one that needs a fresh interpreter."""
    if request.node.get_closest_marker("interpreter") is None:
        monkeypatch.setattr(subprocess, "Popen", _refuse)
        monkeypatch.setattr(os, "fork", _refuse)


@pytest.fixture(autouse=True, scope="session")
def examples() -> Iterator[None]:
    """Take few examples of each property, unless CI runs the tests."""
    if "CI" in os.environ:
        yield
        return
    settings.load_profile("quick")
    yield
    settings.load_profile("busy")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A keys.toml with one key for each scope, which bears the scope's name."""
    return write_keys(tmp_path)


def _refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a unit test may not start a process; tests that need one stand in tests/http or tests/engine")
