"""Measures the CPU and the memory of processes, by the part that they play."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

# The parts of a side. The front is everything between the engine's core and the client.
CORE, ENGINE_FRONT, WEB, OTHER = "core", "engine front", "web", "other"


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of all threads in seconds, ended ones included (clock_getcpuclockid(3)).

    `/proc/PID/stat` counts in hundredths of a second, which is a tenth of what a short run takes.
    """
    return time.clock_gettime((~pid << 3) | 2)


def part(command: Iterable[str]) -> str:
    """Return the part that a process plays, from its command line or from the title that it has put in its place."""
    line = " ".join(command)
    if line.startswith("VLLM::"):
        return CORE
    if "service.engine.worker.process" in line or "bench.bare" in line:
        return ENGINE_FRONT
    if "gunicorn: worker" in line or "api_server" in line or "vllm-rs" in line:
        return WEB
    return OTHER


class Processes:
    """A program and its present descendants."""

    def __init__(self, pid: int, part_of: Callable[[Iterable[str]], str] = part) -> None:
        root = psutil.Process(pid)
        self._parts: dict[int, str] = {}
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                self._parts[process.pid] = part_of(process.cmdline())

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far, by part."""
        return self._summed(cpu_seconds)

    def memory(self) -> dict[str, float]:
        """Return the resident bytes, by part; memory that processes share counts in each of them."""
        return self._summed(lambda pid: psutil.Process(pid).memory_info().rss)

    def _summed(self, measure: Callable[[int], float]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for pid, name in self._parts.items():
            with suppress(OSError, psutil.NoSuchProcess):
                sums[name] = sums.get(name, 0.0) + measure(pid)
        return sums


def used(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def cores() -> int:
    return len(os.sched_getaffinity(0))


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 by itself (AVX-512 BF16 or AMX); other machines: True."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True
    return not flags & {"avx2", "avx512f"} or bool(flags & {"avx512_bf16", "amx_bf16"})
