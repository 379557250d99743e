"""Draws the host's costs, and how long requests wait for it."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from .results import ScaleResults

# A million streams that last this long on average need this many requests per second.
DURATIONS = {"a minute": 60, "ten minutes": 600, "an hour": 3600}
MILLION = 1_000_000


def draw(results: ScaleResults, path: Path) -> None:
    """Draw an SVG at `path`."""
    matplotlib.rcParams["svg.hashsalt"] = "scale"
    figure, (cost, limit, wait) = pyplot.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    hosts = results.costs.hosts
    replicas = [host.replicas for host in hosts]
    _by_replicas(cost, replicas, [host.locate * 1e6 for host in hosts], "the host's CPU for a request, µs")
    cost.plot(
        replicas, [host.seldom * 1e6 for host in hosts], marker="o", linestyle=":", label="made up, 100 requests/s"
    )
    cost.plot([results.real.replicas], [results.real.request * 1e6], "s", label="real replicas")
    cost.legend(frameon=False)
    cost.set_ylim(0, None)
    _by_replicas(
        limit, replicas, [host.limit(results.real.pulse) for host in hosts], "requests/s that one host carries"
    )
    limit.set(yscale="log", ylim=(100, 30_000))
    for name, seconds in DURATIONS.items():
        limit.axhline(MILLION / seconds, color="gray", linewidth=0.8, linestyle="--")
        limit.text(replicas[0], MILLION / seconds * 1.06, f"a million streams of {name}", fontsize=8, color="gray")
    for count in replicas:
        points = [each for each in results.waiting if each.replicas == count]
        wait.plot([each.rate for each in points], [each.outcome.p99 * 1e3 for each in points], marker=".",
                  label=f"{count:,} replica{'s'[: count - 1]}")  # fmt: skip
    wait.set(yscale="log", xlabel="requests/s", title="a request's wait for the host, p99, ms (simulated)")
    wait.legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _by_replicas(axes: Axes, replicas: list[int], values: list[float], title: str) -> None:
    axes.plot(replicas, values, marker="o", label="made up, full loop")
    axes.set(xscale="log", xlabel="replicas", title=title, xticks=replicas)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
