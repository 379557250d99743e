"""`python -m bench.scale`: measure, simulate, check, and write the results, the drawing and the page's tables.

It takes about eight minutes on two cores. With --quick it takes three and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from ..results import Machine
from .check import Real, real_run
from .costs import MODEL_REPLICAS, Costs, HostCost, measured
from .page import written
from .plot import draw
from .results import ScaleResults, Waiting
from .simulation import World, simulate

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "scale.md"
DRAWING = ROOT / "docs" / "images" / "scale.svg"
RESULTS = Path(__file__).parent / "results.json"

REPLICAS = [1, 10, 100, 300, 1000]
QUICK_REPLICAS = [10, 1000]
# What one machine with many cores would have as web workers.
CONNECTIONS = 20
REAL_REPLICAS, REAL_WEB_WORKERS, REAL_STREAMS = 16, 4, 400
# How full the host's loop is in the simulated curves.
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, nothing written")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="scale-") as directory:
        results = run(Path(directory), quick)
    if quick:
        print(msgspec.json.format(msgspec.json.encode(results), indent=1).decode())
        return
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    draw(results, DRAWING)
    PAGE.write_text(written(PAGE.read_text(), results))


def run(directory: Path, quick: bool) -> ScaleResults:
    say("a real run of scripted replicas and web workers")
    real = real_run(directory, REAL_REPLICAS, REAL_WEB_WORKERS, REAL_STREAMS)
    say(f"costs of hosts, web workers and connections: {real}")
    costs = measured(directory, QUICK_REPLICAS if quick else REPLICAS, CONNECTIONS, 3.0 if quick else 6.0)
    return simulated(Machine.this(), costs, real, quick)


def simulated(machine: Machine, costs: Costs, real: Real, quick: bool) -> ScaleResults:
    """Return the results with what the simulation says."""
    say("simulations")
    waiting = [each for host in costs.hosts for each in waits(host, real.pulse, quick)]
    most = costs.hosts[-1]
    million = simulate(
        # Streams that last longer than the simulation, so that none ends before there are a million.
        World(1000, 20, 1000.0, 1e9, (MILLION / 10 if quick else MILLION) / 1000.0, most.locate, real.pulse)
    )
    expected = simulate(World(REAL_REPLICAS, 1, real.rate, 1e9, REAL_STREAMS / real.rate, real.request, real.pulse))
    return ScaleResults(time.strftime("%Y-%m-%d"), machine, costs, waiting, million, real, expected)


def waits(host: HostCost, pulse: float, quick: bool) -> list[Waiting]:
    """Simulate a host at each of LOADS, for as long as some ten thousand requests take."""
    found = []
    for load in LOADS:
        rate = load * host.limit(pulse)
        models = max(1, host.replicas // MODEL_REPLICAS)
        seconds = (2_000 if quick else 20_000) / rate
        world = World(host.replicas, models, rate, 1.0, seconds, host.locate, pulse)
        found.append(Waiting(host.replicas, rate, simulate(world)))
    return found


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
