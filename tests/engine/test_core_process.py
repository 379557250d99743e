"""How vLLM's EngineCore is started on a CPU: a fork of the engine worker where no other process runs the model."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import psutil
import pytest
import torch
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.utils.system_utils import get_mp_context

from service.engine.vllm.core_process import choose_start
from service.protocol.reports import WorkerOptions
from tests.support.servers import Server

METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


def with_backend(backend: Any) -> VllmConfig:
    """As much of a configuration as is read."""
    return cast(VllmConfig, SimpleNamespace(parallel_config=SimpleNamespace(distributed_executor_backend=backend)))


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As vLLM's platform for CPUs leaves them."""
    monkeypatch.setenv(METHOD, "spawn")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    gc.unfreeze()


@pytest.mark.skipif(not current_platform.is_cpu(), reason="a fork can't use CUDA")
def test_vllm_forks_its_core_where_no_other_process_runs_the_model() -> None:
    choose_start(with_backend("uni"))
    assert get_mp_context().get_start_method() == "fork"


@pytest.mark.parametrize("backend", ["mp", "ray", "external_launcher"])
def test_a_core_with_workers_of_its_own_gets_an_interpreter(backend: str) -> None:
    choose_start(with_backend(backend))
    assert get_mp_context().get_start_method() == "spawn"


def test_a_gpu_leaves_the_choice_to_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    choose_start(with_backend("uni"))
    assert os.environ[METHOD] == "spawn"


@pytest.mark.skipif(not current_platform.is_cpu(), reason="a fork can't use CUDA")
def test_a_fork_has_the_number_of_threads_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        choose_start(with_backend("uni"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif((os.cpu_count() or 1) > 8, reason="vLLM starts a worker process of its own on a large machine")
def test_the_core_is_the_only_process_below_the_engine_worker(engine_server: Server) -> None:
    (worker,) = engine_server.engine_workers()
    (core,) = psutil.Process(worker).children(recursive=True)
    assert "EngineCore" in " ".join(core.cmdline())
    # The engine host notices the worker's end by the end of this connection.
    options = msgspec.json.decode(psutil.Process(worker).cmdline()[-1], type=WorkerOptions)
    assert os.readlink(f"/proc/{worker}/fd/{options.lifeline}") not in open_files(core.pid)


def open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process refer to."""
    directory = f"/proc/{pid}/fd"
    return {os.readlink(f"{directory}/{each}") for each in os.listdir(directory)}
