"""How much CPU and memory processes have taken, by the part they play."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

# Parts of a side. Front is what stands between the engine's core and the client.
CORE, ENGINE_FRONT, WEB, OTHER = "core", "engine front", "web", "other"


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, those that have ended too: clock_getcpuclockid(3), in nanoseconds.

    `/proc/PID/stat` counts in hundredths of a second, which is a tenth of what a short run takes.
    """
    return time.clock_gettime((~pid << 3) | 2)


def part(command: Iterable[str]) -> str:
    """The part that a process plays, by its command line, or by the title that it has written over it."""
    line = " ".join(command)
    if line.startswith("VLLM::"):
        return CORE
    if "service.engine.worker.process" in line or "bench.bare" in line:
        return ENGINE_FRONT
    if "gunicorn: worker" in line or "api_server" in line:
        return WEB
    return OTHER


class Processes:
    """A program and its descendants as they are now."""

    def __init__(self, pid: int, part_of: Callable[[Iterable[str]], str] = part) -> None:
        root = psutil.Process(pid)
        self._parts: dict[int, str] = {}
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                self._parts[process.pid] = part_of(process.cmdline())

    def cpu(self) -> dict[str, float]:
        """Seconds so far, by part."""
        return self._summed(cpu_seconds)

    def memory(self) -> dict[str, float]:
        """Resident bytes, by part; what processes share counts in each."""
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
