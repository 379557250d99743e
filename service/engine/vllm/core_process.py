"""The way in which vLLM starts its EngineCore: as a fork of the engine worker, or as an interpreter of its own.

A fork has what the worker has imported. An interpreter of its own imports vLLM once more, which took a third of the
time of a start on two cores, and a quarter of a gigabyte.
"""

from __future__ import annotations

import gc
import os

import torch
from vllm.config import VllmConfig
from vllm.platforms import current_platform


def choose_start(config: VllmConfig) -> None:
    """Have vLLM fork its EngineCore on a CPU where no other process runs the model.

    vLLM's platform for CPUs sets the variable to "spawn" while it makes the configuration. On a GPU this stays as it
    is, since a fork can't use CUDA.
    """
    if not current_platform.is_cpu() or config.parallel_config.distributed_executor_backend != "uni":
        return
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    # OpenMP reads its variable when torch is imported, so a fork has the number of threads from this process. It must
    # not have used them yet: they are not there in the fork.
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    # A collection in the fork would copy each page of these objects.
    gc.collect()
    gc.freeze()
