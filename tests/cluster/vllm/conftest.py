"""A Ray cluster on this machine whose engine workers run vLLM."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.cluster.ray.fleet import Fleet
from tests.faults.mixed_streams import Streams, mixed_streams, wait_until_both_run
from tests.faults.test_engine_core import ENGINE_TIMEOUT, READY_SECONDS
from tests.support.servers import ROOT, VLLM_CACHE

# A kilobyte a token: room for all streams on one engine.
CACHE_BYTES = 134_217_728
REPLICAS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true
replicas = 2
gpus = 1
engine_args = {{ kv_cache_memory_bytes = {CACHE_BYTES} }}
"""
OVER_NODES = f"""
[models.tensor]
source = "{ROOT}/models/demo"
gpus = 2

[models.tensor.engine_args]
distributed_executor_backend = "ray"
tensor_parallel_size = 2
kv_cache_memory_bytes = {CACHE_BYTES}

[models.data]
source = "{ROOT}/models/demo"
gpus = 2

[models.data.engine_args]
data_parallel_backend = "ray"
data_parallel_size = 2
# How many of them vLLM starts on the node of the engine worker: all, if not told otherwise.
data_parallel_size_local = 1
kv_cache_memory_bytes = {CACHE_BYTES}
"""
SETTINGS = {"VLLM_WSGI_ENGINE": "vllm", "VLLM_WSGI_ENGINE_TIMEOUT": str(ENGINE_TIMEOUT)}
PLUGIN = str(ROOT / "tests" / "cluster" / "vllm" / "plugin")


def fleet_of(tmp_path_factory: pytest.TempPathFactory, models: str, variables: dict[str, str]) -> Iterator[Fleet]:
    """Yield a fleet, and stop it. Skips the test where a package is lacking."""
    for package, name in (("ray", "Ray"), ("vllm", "vLLM")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name} is not installed here; `make cluster` installs it")
    shared = {"VLLM_CACHE_ROOT": VLLM_CACHE}
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), SETTINGS, models, shared | variables, READY_SECONDS)
    yield fleet
    fleet.stop()


@pytest.fixture(scope="module")
def whole_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas of a model."""
    yield from fleet_of(tmp_path_factory, REPLICAS, {})


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Fleet:
    """Both replicas serve."""
    whole_fleet.wait_until_whole()
    return whole_fleet


@pytest.fixture(scope="module")
def fleet_for_large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two models that take all GPUs each. Neither is loaded."""
    yield from fleet_of(tmp_path_factory, OVER_NODES, {"PYTHONPATH": PLUGIN})


@pytest.fixture(scope="module")
def undisturbed(whole_fleet: Fleet) -> list[object]:
    whole_fleet.wait_until_whole()
    with mixed_streams(whole_fleet.server.url) as streams:
        return [stream.result() for stream in streams]


@pytest.fixture
def streams(fleet: Fleet, undisturbed: list[object]) -> Iterator[Streams]:
    """Streams of all kinds that run on both replicas."""
    with mixed_streams(fleet.server.url) as streams:
        wait_until_both_run(fleet.server, streams)
        yield streams
