"""A short soak in the suite; `make soak` runs the long one."""

from __future__ import annotations

from pathlib import Path

from tests.soak import grown, soak


def test_nothing_grows_under_a_mixed_load(tmp_path: Path) -> None:
    samples = soak(tmp_path, seconds=15, rounds=5)
    assert grown(samples) == []
