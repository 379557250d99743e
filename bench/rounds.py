"""The sides beside each other: each point is measured on one side after the other, and that several times.

One engine works at a time; the others are up and idle, which costs them a fiftieth of a core.
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
    """What is asked: `streams` at once, questions of so many `words`, answers of so many `tokens`."""

    streams: int
    words: int
    tokens: int


class Run(msgspec.Struct, omit_defaults=True):
    """One side at one point in one round. Times in seconds; `cpu` and `memory` (bytes) by part.

    `arrivals`: how often a stream's client got text; fewer than tokens where some came together.
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
        """Tokens a second."""
        return self.tokens / self.seconds


class Failed(Exception):
    """A side did not answer as it was asked to."""


def measured(side: Side, task: msgspec.Struct) -> tuple[Outcome, dict[str, float]]:
    """What came of the task, and the seconds of CPU by part. Raises Failed."""
    processes = side.processes()
    tell(side.talker, task)
    before = processes.cpu()
    side.talker.say("go")
    expect(side.talker, "done")
    cpu = used(before, processes.cpu())
    return outcome_of(side), cpu


def tell(talker: Program, task: msgspec.Struct) -> None:
    """The task; it is begun by "go" after "ready"."""
    talker.say(msgspec.json.encode(task).decode())
    expect(talker, "ready")


def expect(talker: Program, wanted: str) -> None:
    """Wait for the word; raises Failed for another."""
    if (word := talker.hear()) != wanted:
        raise Failed(f"{word!r} instead of {wanted!r}")


def outcome_of(side: Side) -> Outcome:
    """What the talker says in the end; raises Failed."""
    outcome = msgspec.json.decode(side.talker.hear(), type=Outcome)
    if outcome.failure:
        raise Failed(f"{side.name}: {outcome.failure}")
    return outcome


def measure(side: Side, point: Point, number: int) -> Run:
    """One run; its questions are the same on every engine, but for their number, and new in every round."""
    first = number * 1000 + side.shift
    questions = [question(point.words, first + stream) for stream in range(point.streams)]
    outcome, cpu = measured(side, side.task(questions, point.tokens))
    return Run(
        side.name, point, number, outcome.tokens, outcome.prompt_tokens, outcome.seconds,
        cpu, side.processes().memory(), outcome.load_cpu, len(outcome.first) + len(outcome.gaps),
        percentiles(outcome.first), percentiles(outcome.gaps),
    )  # fmt: skip


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99, between the nearest two."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p99"), values[0] if values else 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def interleaved(sides: list[Side], points: list[Point], rounds: int, report: Callable[[str], object]) -> Iterator[Run]:
    """A run of every side at every point in every round; who begins changes, so that nobody is always the first."""
    for number in range(1, rounds + 1):
        for place, point in enumerate(points):
            turn = (number + place) % len(sides)
            for side in sides[turn:] + sides[:turn]:
                run = measure(side, point, number)
                report(f"round {number}: {point.streams:4} streams, {side.name}: {run.rate:,.0f} tokens/s")
                yield run


def ask(side: Side, streams: int, tokens: int) -> None:
    """Without measuring. Raises Failed."""
    measured(side, side.task([question(0, number) for number in range(streams)], tokens))
