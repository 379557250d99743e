"""Pulls of the demo model from a hub on loopback, and what they leave on disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from service.engine.hub.pulls import Hub, Layer, Snapshot
from tests.support.servers import ROOT

DEMO = ROOT / "models" / "demo"
NAME = "org/demo"
WEIGHTS = (DEMO / "model.safetensors").stat().st_size
# Where the tests hold the weights, and what of them is on disk by then: whole mebibytes.
HELD, KEPT = 5 << 19, 2 << 20

Records = AsyncGenerator[Layer | Snapshot, None]


def use_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `path` huggingface_hub's cache, for the child and for this process, which has read its environment."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_CACHE", str(path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    return path


async def pulled(hub: Hub, name: str = NAME, revision: str = "main") -> Snapshot:
    async with aclosing(hub.pull(name, revision)) as records:
        *_, last = [record async for record in records]
    assert isinstance(last, Snapshot)
    return last


async def held(records: Records) -> None:
    """Until the weights are where the hub holds them."""
    async for record in records:
        if isinstance(record, Layer) and (record.total, record.completed) == (WEIGHTS, KEPT):
            return
    raise AssertionError("the pull ended")


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "service.engine.hub.download" in child.cmdline()]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
