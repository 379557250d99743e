"""The aims of the benchmark, and how far a run is from each."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from .cpu import ENGINE_FRONT, WEB
from .results import Results, front_microseconds, of, part_microseconds, points, sides
from .rounds import Point, Run

BARE, VLLM, RUST = "bare AsyncLLM", "vLLM's server", "vLLM's Rust front end"
RESUMABLE = "this server, resumable NDJSON"
OURS = ("this server, NDJSON", "this server, SSE")


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
    every = points(results.runs)
    busy = [point for point in every if point.streams >= 64]
    full = [point for point in every if point.streams == 256]
    one = [point for point in every if point.streams == 1]

    def worst(other: str, places: list[Point], value: Callable[[Run], float], pick: Callable[..., float]) -> float:
        return pick(ratio(results, side, other, point, value) for side in OURS for point in places)

    def least(part: str) -> float:
        """The best point's cost: no prompt of 500 tokens is a part of it."""
        return min(_microseconds(results, side, point, part) for side in OURS for point in busy)

    found = [
        _at_most(f"gap {name}, of vLLM's server's, {streams} streams", worst(VLLM, places, value, max), 1.1)
        for name, value in (("p50", _gap_p50), ("p99", _gap_p99))
        for streams, places in (("1 and 16", [point for point in every if point not in busy]), ("64 to 256", busy))
    ]
    found += [
        _at_most(f"time to first token {name}, of vLLM's server's, {streams}", worst(VLLM, places, value, max), 1.0)
        for name, value in (("p50", _first_p50), ("p99", _first_p99))
        for streams, places in (
            ("one stream", one),
            ("a burst of 16 to 256", [each for each in every if each not in one]),
        )
    ]
    found += [
        _at_most(
            "front-end CPU per token, of vLLM's server's, 64 to 256", worst(VLLM, busy, front_microseconds, max), 0.5
        ),
        _at_most(
            "front-end CPU per token, of vLLM's server's, one stream", worst(VLLM, one, front_microseconds, max), 1.0
        ),
        _at_most("CPU per token, engine's front, 64 to 256 streams, best point", least(ENGINE_FRONT), 12.0, "µs"),
        _at_most("CPU per token, web tier, 64 to 256 streams, best point", least(WEB), 18.0, "µs"),
        _at_least("tokens/s, of vLLM's server's, every point", worst(VLLM, every, _rate, min), 1.0),
        _at_least("tokens/s, of bare AsyncLLM's, 256 streams", worst(BARE, full, _rate, min), 0.97),
    ]
    if RESUMABLE in sides(results.runs):
        more = max(_more(results, RESUMABLE, OURS[0], point) for point in busy)
        found.append(_at_most("CPU per token that a resumable stream costs more, 64 to 256 streams", more, 1.0, "µs"))
    if RUST in sides(results.runs):
        found += [
            _at_most(
                "front-end CPU per token, of the Rust front end's, 256", worst(RUST, full, front_microseconds, max), 1.0
            ),
            _at_least("tokens/s, of the Rust front end's, every point", worst(RUST, every, _rate, min), 1.0),
        ]
    return found


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
        _at_most("from exec to the model's first answer", ours, 12.0, "s"),
    ]


def _rate(run: Run) -> float:
    return run.rate


def _first_p50(run: Run) -> float:
    return run.first["p50"]


def _first_p99(run: Run) -> float:
    return run.first["p99"]


def _gap_p50(run: Run) -> float:
    return run.gap["p50"]


def _gap_p99(run: Run) -> float:
    return run.gap["p99"]


def _microseconds(results: Results, side: str, point: Point, part: str) -> float:
    return statistics.median(part_microseconds(run, part) for run in of(results.runs, side, point))


def _more(results: Results, side: str, other: str, point: Point) -> float:
    """Return how many microseconds of the front end's CPU a token costs more than on the other side: the median."""
    pairs = zip(of(results.runs, side, point), of(results.runs, other, point), strict=True)
    return statistics.median(front_microseconds(one) - front_microseconds(two) for one, two in pairs)


def _at_most(what: str, found: float, limit: float, unit: str = "") -> Aim:
    return Aim(what, f"at most {limit:.3g} {unit}".rstrip(), f"{found:.3g} {unit}".rstrip(), found <= limit)


def _at_least(what: str, found: float, limit: float) -> Aim:
    # A window can hold one step more or less of what is offered at a rate.
    return Aim(what, f"at least {limit:.3g}", f"{found:.3g}", found >= limit * 0.995)
