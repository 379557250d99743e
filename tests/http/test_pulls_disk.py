"""Pulls to a disk that is too small."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from service.engine.hub.pulls import Hub
from service.errors import Unavailable
from tests.support.hub import LoopbackHub
from tests.support.loop import in_loop
from tests.support.pulls import DEMO, HELD, KEPT, NAME, contents, held, pulled, use_cache

# vLLM brings it; the rest of tests/http runs without.
pytest.importorskip("huggingface_hub")


@pytest.fixture
def small_disk(tmp_path: Path, origin: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache on a disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield use_cache(disk / "hub", monkeypatch)
    subprocess.run(["umount", disk], check=True)


@in_loop
async def test_a_disk_that_is_too_small_is_not_filled(small_disk: Path, origin: LoopbackHub):
    (small_disk.parent / "other").write_bytes(bytes(6 << 20))
    size = sum(map(len, contents(DEMO).values()))
    with pytest.raises(Unavailable, match=f"needs {size / 1e9:.3g} GB and the server's disk has"):
        await anext(Hub().pull(NAME))
    assert origin.begun == []


@in_loop
async def test_a_disk_that_fills_up_meanwhile_is_told_and_the_rest_comes_when_there_is_room(
    small_disk: Path, origin: LoopbackHub
):
    other, origin.hold_at = small_disk.parent / "other", HELD
    async with aclosing(Hub().pull(NAME)) as records:
        await held(records)
        with suppress(OSError):
            other.write_bytes(bytes(8 << 20))
        origin.release()
        with pytest.raises(Unavailable, match="disk is full"):
            await held(records)
    other.unlink()
    assert contents(Path((await pulled(Hub())).directory)) == contents(DEMO)
    assert origin.begun == [0, KEPT]
