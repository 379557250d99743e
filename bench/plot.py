"""Draws the results: the cost of a token in front of the engine, and how many tokens arrive in a second."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from .results import Results, front_microseconds, of, points, sides
from .rounds import Run


def draw(results: Results, path: Path) -> None:
    """Draw an SVG at `path`, over the number of streams, for the short prompts."""
    figure, (cost, rate, gap) = pyplot.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    _lines(cost, results, front_microseconds, "front-end CPU per token, µs")
    _lines(rate, results, lambda run: run.rate, "tokens/s delivered")
    _lines(gap, results, lambda run: run.gap["p99"] * 1e3, "inter-token latency p99, ms")
    cost.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _lines(axes: Axes, results: Results, value: Callable[[Run], float], title: str) -> None:
    short = [point for point in points(results.runs) if not point.words]
    for side in sides(results.runs):
        runs = [of(results.runs, side, point) for point in short]
        middle = [statistics.median(value(run) for run in each) for each in runs]
        streams = [point.streams for point in short]
        (line,) = axes.plot(streams, middle, marker="o", label=side)
        low, high = ([pick(value(run) for run in each) for each in runs] for pick in (min, max))
        axes.fill_between(streams, low, high, color=line.get_color(), alpha=0.15)
    axes.set(xscale="log", xlabel="streams", title=title, xticks=[point.streams for point in short])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
