"""`python -m bench`: run every measurement in turn; write RESULTS.md, results.json and results.svg beside this file."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from .claims import PAGE, written
from .cpu import WEB
from .judges import Verdict, verdicts
from .model import write_endless
from .plot import draw
from .results import Machine, Results
from .rounds import Failed, Point, Run, ask, interleaved
from .rust import RustVllm, cpu_distribution, rust_front_end
from .servers import Bare, HttpSide, Ours, OursAgain, OursInEvents, OursResumable, Side, Vllm, get
from .tables import aims_table, document
from .webtier import Silent, Start, Steady, silent, steady

HERE = Path(__file__).parent
# This many words make a prompt of 500 tokens.
LONG = 118
# Long enough that the cost of a request does not hide that of a token, short enough that a run takes 15 minutes.
# One stream alone is over soon, so its answers are longer: a run should take seconds.
SHORT_POINTS = [Point(1, 0, 1024), Point(16, 0, 256), Point(64, 0, 256), Point(128, 0, 192), Point(256, 0, 128)]
LONG_POINTS = [
    Point(1, LONG, 512),
    Point(16, LONG, 96),
    Point(64, LONG, 64),
    Point(128, LONG, 48),
    Point(256, LONG, 48),
]
QUICK_POINTS = [Point(1, 0, 128), Point(64, 0, 128), Point(256, 0, 64)]
# With few cores vLLM's own layout was many times slower, so these points are enough.
SHIPPED_POINTS = [Point(16, 0, 32), Point(64, 0, 32)]
# Streams, and tokens a second for each: more streams at one rate, then 40,000 and 80,000 tokens a second in all.
STEADY = [(50, 20), (200, 20), (1000, 20), (2000, 20), (50, 800), (200, 200), (1000, 40)]
STEADY += [(50, 1600), (200, 400), (1000, 80), (2000, 40)]
QUICK_STEADY = [(50, 20), (2000, 20), (200, 200)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes: fewer points and rounds, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds of the sides beside each other (3; quick: 1)")
    parser.add_argument("--to", type=Path, default=HERE, help="the directory to write to")
    arguments = parser.parse_args()
    # Every program that was started is stopped, however this process ends.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        results = run(Path(directory), arguments.quick, arguments.rounds or (1 if arguments.quick else 3))
    if arguments.quick and arguments.to == HERE:
        # A quick run does not replace the results of the last full run.
        print(document(results))
        return
    (arguments.to / "RESULTS.md").write_text(document(results))
    (arguments.to / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    draw(results, arguments.to / "results.svg")
    if arguments.to == HERE:
        PAGE.write_text(written(PAGE.read_text(), results))
    print(aims_table(results))


def run(directory: Path, quick: bool, rounds: int) -> Results:
    began, machine = time.monotonic(), Machine.this()
    web_start, measured, still = web_tier(directory, QUICK_STEADY if quick else STEADY, 1000 if quick else 5000)
    points = QUICK_POINTS if quick else SHORT_POINTS + LONG_POINTS
    beside = side_by_side(directory, points, rounds, quick)
    minutes = (time.monotonic() - began) / 60
    return Results(
        time.strftime("%Y-%m-%d"), minutes, machine, beside.starts, beside.runs, beside.shipped,
        web_start, measured, still, beside.verdicts,
    )  # fmt: skip


def web_tier(directory: Path, loads: list[tuple[int, int]], streams: int) -> tuple[Start, list[Steady], Silent]:
    """Measure one web worker in front of the scripted engine."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        side = Ours.scripted(directory)
        stack.callback(side.stop)
        while get(side.port, "/") is None:
            time.sleep(0.01)
        start = Start(time.monotonic() - began, side.processes().memory()[WEB])
        side.wait_until_ready()
        still = silent(side, streams, 10.0)
        measured = []
        for number, rate in loads:
            say(f"the web tier alone: {number} streams of {rate} tokens/s each")
            try:
                measured.append(steady(side, number, rate, 4.0))
            except Failed as failure:
                # This is more than the machine can take now; the other points are still measured.
                say(f"left out: {failure}")
    return start, measured, still


class Beside(NamedTuple):
    """What was measured of the sides beside each other."""

    starts: dict[str, float]
    runs: list[Run]
    shipped: list[Run]
    verdicts: list[Verdict]


def side_by_side(directory: Path, points: list[Point], rounds: int, quick: bool) -> Beside:
    """Measure every side at every point.

    A full run then has other people's load generators measure them, and vLLM's server with its own layout.
    """
    model = write_endless(directory)
    kinds: list[Callable[[], Side]] = [
        lambda: Bare(directory, model), lambda: Vllm(directory, model), *_rust(directory, model),
        lambda: Ours.with_vllm(directory, model),
    ]  # fmt: skip
    starts: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        sides = [started(kind, stack, starts) for kind in kinds]
        ours = sides[-1]
        assert isinstance(ours, Ours)
        sides += [OursInEvents(ours), OursResumable(ours)]
        runs = list(interleaved(sides, points, rounds, say))
        shipped, found = [], []
        if not quick:
            cpu_distribution(directory)
            # They use OpenAI's API, so this server's two formats are one to them.
            servers = [side for side in sides if isinstance(side, HttpSide) and not isinstance(side, OursAgain)]
            found = list(verdicts(servers, directory, say))
            sides[1] = started(lambda: Vllm.as_shipped(directory, model), stack, starts)
            shipped = list(interleaved(sides, SHIPPED_POINTS, 1, say))
    return Beside(starts, runs, shipped, found)


def _rust(directory: Path, model: Path) -> list[Callable[[], Side]]:
    """Return the side of vLLM's Rust front end, where its program can be had."""
    try:
        program = rust_front_end()
    except (subprocess.SubprocessError, OSError) as error:
        say(f"vLLM's Rust front end is left out: {error}")
        return []
    return [lambda: RustVllm(directory, model, program)]


def started(kind: Callable[[], Side], stack: contextlib.ExitStack, starts: dict[str, float]) -> Side:
    """Return the side, started and warmed up; the stack stops it."""
    began = time.monotonic()
    side = kind()
    stack.callback(side.stop)
    side.wait_until_ready()
    ask(side, streams=1, tokens=1)
    starts[side.name] = time.monotonic() - began
    # The first requests fill caches and import modules.
    ask(side, streams=16, tokens=32)
    say(f"{side.name} answers after {starts[side.name]:.0f} s")
    return side


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
