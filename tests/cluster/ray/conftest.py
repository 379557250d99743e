"""A Ray cluster on this machine, an engine host that is one of its drivers, and a web tier that knows nothing of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.cluster.ray.fleet import Fleet

collect_ignore_glob = [] if importlib.util.find_spec("ray") else ["test_*.py"]


@pytest.fixture(scope="session")
def whole_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.stop()


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Fleet:
    """Both replicas serve."""
    whole_fleet.wait_until_whole()
    return whole_fleet
