"""The table of ratios in docs/explanation/performance.md: this server beside vLLM's own, in a few lines.

A ratio is the median over the rounds of one side's value over the other's in the same round. A cell shows the lowest
and the highest ratio among the points of its row and both stream formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .aims import BARE, OURS, VLLM, ratio
from .results import Results, front_microseconds, of, points
from .rounds import Point, Run
from .tables import table

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"

Claim = tuple[str, str, Callable[[Run], float]]
CLAIMS: list[Claim] = [
    ("CPU per token", VLLM, front_microseconds),
    ("tokens/s", VLLM, lambda run: run.rate),
    ("first token", VLLM, lambda run: run.first["p50"]),
    ("gap p50", VLLM, lambda run: run.gap["p50"]),
    ("gap p99", VLLM, lambda run: run.gap["p99"]),
    ("tokens/s, bare", BARE, lambda run: run.rate),
]


def claims_table(results: Results) -> str:
    """Return the table: rows for 1, for 16, and for 64 streams and more, with short and with long prompts."""
    titles = ["prompt", "streams", *(title for title, _, _ in CLAIMS)]
    return table(titles, [_row(results, group) for group in _groups(results)])


def written(page: str, results: Results) -> str:
    """Return the page with the table of these results in place of the one that it has."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{claims_table(results)}\n\n{END}{rest.split(END)[1]}"


def _groups(results: Results) -> list[list[Point]]:
    found = points(results.runs)
    words = sorted({point.words for point in found})
    groups = [
        [point for point in found if point.words == each and low <= point.streams <= high]
        for each in words
        for low, high in ((1, 1), (16, 16), (64, 256))
    ]
    return [group for group in groups if group]


def _row(results: Results, group: list[Point]) -> list[str]:
    streams = sorted({point.streams for point in group})
    prompt = of(results.runs, VLLM, group[0])[0].prompt_tokens
    cells = [_span(results, group, other, value) for _, other, value in CLAIMS]
    return [str(prompt), f"{streams[0]}–{streams[-1]}" if len(streams) > 1 else str(streams[0]), *cells]


def _span(results: Results, group: list[Point], other: str, value: Callable[[Run], float]) -> str:
    found = [f"{ratio(results, side, other, point, value):.2f}" for side in OURS for point in group]
    low, high = min(found, key=float), max(found, key=float)
    return low if low == high else f"{low}–{high}"
