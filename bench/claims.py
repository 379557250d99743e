"""The tables in docs/explanation/performance.md: this server beside each of vLLM's own, and the aims that are not met.

A ratio is the median over the rounds of one side's value over the other's in the same round. A cell shows the lowest
and the highest ratio among the points of its row and both stream formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .aims import BARE, OURS, RUST, VLLM, aims, ratio
from .results import Results, front_microseconds, of, points, sides
from .rounds import Point, Run
from .tables import table

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- written by make bench: {} -->", "<!-- end of {} -->"

Claim = tuple[str, Callable[[Run], float]]
CLAIMS: list[Claim] = [
    ("CPU per token", front_microseconds),
    ("tokens/s", lambda run: run.rate),
    ("first token p50", lambda run: run.first["p50"]),
    ("first token p99", lambda run: run.first["p99"]),
    ("gap p50", lambda run: run.gap["p50"]),
    ("gap p99", lambda run: run.gap["p99"]),
]
PEERS = {
    VLLM: "Divided by vLLM's Python server:",
    RUST: "Divided by vLLM's Rust front end:",
    BARE: "Divided by bare `AsyncLLM`:",
}


def claims_tables(results: Results) -> str:
    """Return a table for each peer that was measured."""
    there = [peer for peer in PEERS if peer in sides(results.runs)]
    return "\n\n".join(f"{PEERS[peer]}\n\n{claims_table(results, peer)}" for peer in there)


def claims_table(results: Results, peer: str) -> str:
    """Return the table: rows for 1, for 16, and for 64 streams and more, with short and with long prompts."""
    titles = ["prompt", "streams", *(title for title, _ in CLAIMS)]
    return table(titles, [_row(results, group, peer) for group in _groups(results)])


def shortfall_table(results: Results) -> str:
    """Return the aims that are not met, with what was found."""
    return table(
        ["measured", "aim", "found"], [[aim.what, aim.wanted, aim.found] for aim in aims(results) if not aim.met]
    )


def written(page: str, results: Results) -> str:
    """Return the page with the tables of these results in place of those that it has."""
    return _replaced(_replaced(page, "ratios", claims_tables(results)), "shortfalls", shortfall_table(results))


def _replaced(page: str, name: str, text: str) -> str:
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"


def _groups(results: Results) -> list[list[Point]]:
    found = points(results.runs)
    words = sorted({point.words for point in found})
    groups = [
        [point for point in found if point.words == each and low <= point.streams <= high]
        for each in words
        for low, high in ((1, 1), (16, 16), (64, 256))
    ]
    return [group for group in groups if group]


def _row(results: Results, group: list[Point], peer: str) -> list[str]:
    streams = sorted({point.streams for point in group})
    prompt = of(results.runs, VLLM, group[0])[0].prompt_tokens
    cells = [_span(results, group, peer, value) for _, value in CLAIMS]
    return [str(prompt), f"{streams[0]}–{streams[-1]}" if len(streams) > 1 else str(streams[0]), *cells]


def _span(results: Results, group: list[Point], other: str, value: Callable[[Run], float]) -> str:
    found = [f"{ratio(results, side, other, point, value):.2f}" for side in OURS for point in group]
    low, high = min(found, key=float), max(found, key=float)
    return low if low == high else f"{low}–{high}"
