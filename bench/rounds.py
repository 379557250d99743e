"""Measures the sides beside each other: each point on one side after the other, in several rounds.

One engine works at a time; the others are idle, which costs a fiftieth of a core each.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import msgspec

from .cpu import used
from .load import Outcome
from .model import question
from .servers import Program, Side


class Point(msgspec.Struct, frozen=True):
    """A load: `streams` at once, questions of `words` words, answers of `tokens` tokens."""

    streams: int
    words: int
    tokens: int


class Run(msgspec.Struct, omit_defaults=True):
    """One side at one point in one round. Times are in seconds; `cpu` and `memory` (bytes) are by part.

    `arrivals` counts how often a stream's client got text: less often than tokens when some came together.
    """

    side: str
    point: Point
    round: int
    tokens: int
    prompt_tokens: int
    seconds: float
    cpu: dict[str, float]
    memory: dict[str, float]
    load_cpu: float
    arrivals: int
    first: dict[str, float]
    gap: dict[str, float]

    @property
    def rate(self) -> float:
        """Return the tokens a second."""
        return self.tokens / self.seconds


class Failed(Exception):
    """A side did not answer as requested."""


def measured(side: Side, task: msgspec.Struct) -> tuple[Outcome, dict[str, float]]:
    """Return the outcome of the task, and the CPU seconds by part. Raises Failed."""
    processes = side.processes()
    send_task(side.generator, task)
    before = processes.cpu()
    side.generator.send("go")
    expect(side.generator, "done")
    cpu = used(before, processes.cpu())
    return outcome_of(side), cpu


def send_task(generator: Program, task: msgspec.Struct) -> None:
    """Send the task, which begins with "go" after "ready"."""
    generator.send(msgspec.json.encode(task).decode())
    expect(generator, "ready")


def expect(generator: Program, wanted: str) -> None:
    """Wait for the word. Raises Failed when another one comes."""
    if (word := generator.receive()) != wanted:
        raise Failed(f"{word!r} instead of {wanted!r}")


def outcome_of(side: Side) -> Outcome:
    """Return the load generator's outcome. Raises Failed."""
    outcome = msgspec.json.decode(side.generator.receive(), type=Outcome)
    if outcome.failure:
        raise Failed(f"{side.name}: {outcome.failure}")
    return outcome


def measure(side: Side, point: Point, number: int) -> Run:
    """Measure one run. Its questions differ between engines in a number only, and are new in every run.

    An engine that has seen a question at another point would have its prompt in the prefix cache.
    """
    first = (number * 1024 + point.streams) * 1024 + side.shift
    questions = [question(point.words, first + stream) for stream in range(point.streams)]
    outcome, cpu = measured(side, side.task(questions, point.tokens))
    return Run(
        side.name, point, number, outcome.tokens, outcome.prompt_tokens, outcome.seconds,
        cpu, side.processes().memory(), outcome.load_cpu, len(outcome.first) + len(outcome.gaps),
        percentiles(outcome.first), percentiles(outcome.gaps),
    )  # fmt: skip


def percentiles(values: list[float]) -> dict[str, float]:
    """Return p50 and p99, interpolated between the nearest two values."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p99"), values[0] if values else 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def interleaved(sides: list[Side], points: list[Point], rounds: int, report: Callable[[str], object]) -> Iterator[Run]:
    """Measure every side at every point in every round. Each round begins with another side."""
    for number in range(1, rounds + 1):
        for place, point in enumerate(points):
            turn = (number + place) % len(sides)
            for side in sides[turn:] + sides[:turn]:
                run = measure(side, point, number)
                report(f"round {number}: {point.streams:4} streams, {side.name}: {run.rate:,.0f} tokens/s")
                yield run


def ask(side: Side, streams: int, tokens: int) -> None:
    """Send one request without measuring it. Raises Failed."""
    measured(side, side.task([question(0, number) for number in range(streams)], tokens))
