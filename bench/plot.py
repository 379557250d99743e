"""Draws the results: cost, throughput and latency over the streams, and what each side pays for its latency."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from .results import Results, front_microseconds, of, points, sides
from .rounds import Run


def draw(results: Results, path: Path) -> None:
    """Draw an SVG at `path`, over the number of streams, for the short prompts."""
    figure, ((cost, rate), (gap, frontier)) = pyplot.subplots(2, 2, figsize=(11, 8.4), layout="constrained")
    _lines(cost, results, front_microseconds, "front-end CPU per token, µs")
    _lines(rate, results, lambda run: run.rate, "tokens/s delivered")
    _lines(gap, results, lambda run: run.gap["p99"] * 1e3, "inter-token latency p99, ms")
    _frontier(frontier, results)
    cost.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _frontier(axes: Axes, results: Results) -> None:
    """Draw each side as a curve over the streams, which are written at its points. Nearer to the origin is better."""
    short = [point for point in points(results.runs) if not point.words]
    for side in sides(results.runs):
        runs = [of(results.runs, side, point) for point in short]
        costs = [statistics.median(front_microseconds(run) for run in each) for each in runs]
        gaps = [statistics.median(run.gap["p50"] * 1e3 for run in each) for each in runs]
        (line,) = axes.plot(costs, gaps, marker="o", label=side)
        for point, cost, gap in zip(short, costs, gaps, strict=True):
            axes.annotate(
                str(point.streams), (cost, gap), xytext=(4, 4), textcoords="offset points", color=line.get_color()
            )
    axes.set(
        xscale="log", yscale="log", xlabel="front-end CPU per token, µs", ylabel="inter-token latency p50, ms",
        title="what each side pays for its latency",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_locator(NullLocator())


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
