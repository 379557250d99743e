"""A unit test starts no process and no server: the folder decides, and this file enforces it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.keys import write_keys


@pytest.fixture(autouse=True)
def starts_no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a test fail that starts a process, unless it is marked as one that needs a fresh interpreter."""
    if request.node.get_closest_marker("interpreter") is None:
        monkeypatch.setattr(subprocess, "Popen", _refuse)
        monkeypatch.setattr(os, "fork", _refuse)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A keys.toml with one key for each scope, which bears the scope's name."""
    return write_keys(tmp_path)


def _refuse(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a unit test may not start a process; tests that need one stand in tests/http or tests/engine")
