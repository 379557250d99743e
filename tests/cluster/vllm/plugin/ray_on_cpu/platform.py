"""vLLM's platform for CPUs, on nodes whose GPUs do not exist."""

from __future__ import annotations

from vllm.platforms.cpu import CpuPlatform


class RayOnCpu(CpuPlatform):
    ray_device_key = "GPU"
