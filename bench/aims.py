"""The aims of the benchmark, and how far a run is from each."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from .results import Results, front_microseconds, of, points
from .rounds import Point, Run

BARE, VLLM, OURS = "bare AsyncLLM", "vLLM's server", ("this server, NDJSON", "this server, SSE")


class Aim(NamedTuple):
    """One aim. `found` and `wanted` are texts for the table; `met`: the value found is within the aim."""

    what: str
    wanted: str
    found: str
    met: bool


def ratios(results: Results, side: str, other: str, point: Point, value: Callable[[Run], float]) -> list[float]:
    """Return one side's value over the other's for each round: what slows down a round slows down both sides."""
    pairs = zip(of(results.runs, side, point), of(results.runs, other, point), strict=True)
    return [value(ours) / value(theirs) for ours, theirs in pairs]


def ratio(results: Results, side: str, other: str, point: Point, value: Callable[[Run], float]) -> float:
    return statistics.median(ratios(results, side, other, point, value))


def aims(results: Results) -> list[Aim]:
    return [*_beside(results), *_alone(results)]


def _beside(results: Results) -> list[Aim]:
    busy = [point for point in points(results.runs) if point.streams >= 64]
    two = [point for point in busy if point.streams in (64, 256)]
    (one,) = [point for point in points(results.runs) if point.streams == 1 and not point.words]
    (middle,) = [point for point in points(results.runs) if point.streams == 64 and not point.words]

    def worst(other: str, places: list[Point], value: Callable[[Run], float], pick: Callable[..., float]) -> float:
        return pick(ratio(results, side, other, point, value) for side in OURS for point in places)

    front = worst(VLLM, two, front_microseconds, max)
    bare, vllm = worst(BARE, busy, _rate, min), worst(VLLM, busy, _rate, min)
    first = max(_difference(results, side, BARE, one) for side in OURS)
    first_vllm, gap = worst(VLLM, [one], _first, max), worst(VLLM, [middle], _gap, max)
    return [
        _at_most("front-end CPU per token, of vLLM's server, 64 and 256 streams", front, 1 / 3),
        _at_least("tokens/s, of bare AsyncLLM's, 64 to 256 streams", bare, 0.97),
        _at_least("tokens/s, of vLLM's server's, 64 to 256 streams", vllm, 1.0),
        _at_most("time to first token over bare AsyncLLM's, one stream", first * 1e3, 2.0, "ms"),
        _at_most("time to first token, of vLLM's server's, one stream", first_vllm, 1.0),
        _at_most("inter-token latency p99, of vLLM's server's, 64 streams", gap, 1.0),
    ]


def _alone(results: Results) -> list[Aim]:
    (full,) = [each for each in results.steady if (each.streams, each.rate) == (200, 200)]
    flat = [each.web_microseconds for each in results.steady if each.rate == 20]
    silent, start = results.silent, results.web_start
    ours = next(seconds for side, seconds in results.starts.items() if side in OURS)
    return [
        _at_least(
            "web tier alone, 200 streams: delivered of 40,000 tokens/s offered", full.delivered / full.offered, 1.0
        ),
        _at_most("web tier alone, 200 streams: CPU per token", full.web_microseconds, 20.0, "µs"),
        _at_most("web tier alone, 200 streams: added latency p99", full.late["p99"] * 1e3, 50.0, "ms"),
        _at_most("CPU per token, up to 2,000 streams over that of 50", max(flat) / flat[0], 1.25),
        _at_most("memory of an open, silent stream", silent.bytes_each / 1000, 60.0, "KB"),
        _at_most(
            f"a new request beside {silent.streams:,} silent streams, p99", silent.answered["p99"] * 1e3, 50.0, "ms"
        ),
        _at_most("web tier from exec to the first answer", start.seconds, 1.0, "s"),
        _at_most("memory of the web worker", start.memory / 1e6, 60.0, "MB"),
        _at_most("from exec to the model's first answer", ours, 20.0, "s"),
    ]


def _rate(run: Run) -> float:
    return run.rate


def _first(run: Run) -> float:
    return run.first["p50"]


def _gap(run: Run) -> float:
    return run.gap["p99"]


def _difference(results: Results, side: str, other: str, point: Point) -> float:
    """Return how many seconds later the first token comes than on the other side: the median over the rounds."""
    pairs = zip(of(results.runs, side, point), of(results.runs, other, point), strict=True)
    return statistics.median(_first(ours) - _first(theirs) for ours, theirs in pairs)


def _at_most(what: str, found: float, limit: float, unit: str = "") -> Aim:
    return Aim(what, f"at most {limit:.3g} {unit}".rstrip(), f"{found:.3g} {unit}".rstrip(), found <= limit)


def _at_least(what: str, found: float, limit: float) -> Aim:
    # A window can hold one step more or less of what is offered at a rate.
    return Aim(what, f"at least {limit:.3g}", f"{found:.3g}", found >= limit * 0.995)
