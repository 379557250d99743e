"""Writes results as Markdown: RESULTS.md, and the tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .aims import aims
from .cpu import CORE, ENGINE_FRONT, OTHER, WEB
from .judges import REQUESTS, STREAMS, TOKENS
from .results import Figure, Results, figure, front_microseconds, of, part_microseconds, points, sides
from .rounds import Run

HOW = """\
Written by `make bench`; not by hand. Ratios travel from machine to machine, times do not.

Every side has the same model (models/demo without its end token, so that all answers have the same length), the same
questions, greedy sampling, no thinking, the same engine arguments and the same layout of vLLM's processes: one for the
engine's core and the model, which this server chooses by itself on a machine with few cores, and as many threads
as cores but one. "As it ships" leaves layout and threads to vLLM. The sides are asked one after the other, in turn;
the others are up and idle meanwhile. CPU is that of all threads of the processes named: *front* is everything but the
engine's core. Tokens that reach a client together count as one arrival, so that this server's inter-token latency holds
the gaps between writes and is never shorter than it is. Figures are medians over the rounds, in brackets the least
and the most.
"""

JUDGES = f"""\
Each judge asks for {TOKENS} tokens {REQUESTS} times on `/v1/chat/completions`, {STREAMS} at once, and uses its own
definitions: guidellm's inter-token latency is one mean for each answer.
"""

Column = tuple[str, Callable[[Run], float], str]
COLUMNS: list[Column] = [
    ("tokens/s", lambda run: run.rate, "{:,.0f}"),
    ("front µs/token", front_microseconds, "{:.0f}"),
    ("engine front", lambda run: part_microseconds(run, ENGINE_FRONT), "{:.0f}"),
    ("web", lambda run: part_microseconds(run, WEB), "{:.0f}"),
    ("core µs/token", lambda run: part_microseconds(run, CORE), "{:.0f}"),
    ("tokens an arrival", lambda run: run.tokens / run.arrivals, "{:.1f}"),
    ("first token p50 ms", lambda run: run.first["p50"] * 1e3, "{:.1f}"),
    ("p99", lambda run: run.first["p99"] * 1e3, "{:.1f}"),
    ("inter-token p50 ms", lambda run: run.gap["p50"] * 1e3, "{:.1f}"),
    ("p99", lambda run: run.gap["p99"] * 1e3, "{:.1f}"),
    ("load generator, cores", lambda run: run.load_cpu / run.seconds, "{:.2f}"),
]


def document(results: Results) -> str:
    parts = [
        "# Results",
        HOW,
        machine(results),
        "## Aims",
        aims_table(results),
        "![](results.svg)",
        "## Beside each other",
    ]
    for point in points(results.runs):
        prompt = of(results.runs, sides(results.runs)[0], point)[0].prompt_tokens
        parts += [f"### {point.streams} streams, prompts of {prompt} tokens, answers of {point.tokens}"]
        parts += [runs_table([run for run in results.runs if run.point == point])]
    parts += ["## vLLM's layout as it ships", *(runs_table(results.as_shipped) for _ in results.as_shipped[:1])]
    parts += ["## Other people's load generators", verdicts_table(results), JUDGES]
    parts += ["## Memory", memory_table(results), "## The web tier alone", steady_table(results), silent(results)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def machine(results: Results) -> str:
    here = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return (
        f"{results.began}, {results.minutes:.0f} minutes, on {here.cores} cores ({here.processor}), "
        f"{here.memory / 2**30:.0f} GiB; load average at the beginning {here.busy:.1f}. {versions}."
    )


def aims_table(results: Results) -> str:
    rows = [[aim.what, aim.wanted, aim.found, "yes" if aim.met else "**no**"] for aim in aims(results)]
    return table(["measured", "aim", "found", "met"], rows)


def runs_table(runs: list[Run]) -> str:
    rows = []
    for side in sides(runs):
        own = [run for run in runs if run.side == side]
        rows.append([side, *(cell(figure([value(run) for run in own]), form) for _, value, form in COLUMNS)])
    return table(["side", *(title for title, _, _ in COLUMNS)], rows)


def verdicts_table(results: Results) -> str:
    rows = [
        [each.judge, each.side, f"{each.rate:,.0f}"]
        + [f"{value:.1f}" for times in (each.first, each.gap) for value in (times["p50"], times["p99"])]
        for each in results.verdicts
    ]
    return table(["judge", "side", "tokens/s", "first token p50 ms", "p99", "inter-token p50 ms", "p99"], rows)


def cell(found: Figure, form: str) -> str:
    """Return the median and, in brackets, the least and the most when they differ."""
    shown, low, high = (form.format(value) for value in found)
    return shown if low == high else f"{shown} [{low}–{high}]"


def memory_table(results: Results) -> str:
    parts = [CORE, ENGINE_FRONT, WEB, OTHER]
    rows = []
    for side in sides(results.runs):
        most = {part: max(run.memory.get(part, 0.0) for run in results.runs if run.side == side) for part in parts}
        started = f"{results.starts[side]:.0f}" if side in results.starts else ""
        rows.append([side, *(f"{most[part] / 1e6:,.0f}" for part in parts), started])
    return table(["resident, MB", *parts, "exec to first answer, s"], rows)


def steady_table(results: Results) -> str:
    rows = [
        [f"{each.streams:,}", f"{each.rate:g}", f"{each.offered:,.0f}", f"{each.delivered:,.0f}",
         f"{each.web_microseconds:.1f}", f"{each.cpu.get(WEB, 0) / each.seconds:.2f}", f"{each.late['p50'] * 1e3:.1f}",
         f"{each.late['p99'] * 1e3:.1f}", f"{each.tokens / max(1, each.reads):.1f}",
         f"{each.cpu.get(ENGINE_FRONT, 0) / each.seconds:.2f}", f"{each.load_cpu / each.seconds:.2f}"]
        for each in results.steady
    ]  # fmt: skip
    titles = ["streams", "tokens/s each", "offered", "delivered", "web µs/token", "web, cores", "added latency p50 ms"]
    return table([*titles, "p99", "tokens a read", "script, cores", "load generator, cores"], rows)


def silent(results: Results) -> str:
    it, start = results.silent, results.web_start
    return (
        f"{it.streams:,} open and silent streams on one worker: {it.bytes_each / 1000:.0f} KB each, "
        f"{it.cores:.3f} cores, a new request answered in {it.answered['p50'] * 1e3:.1f} ms "
        f"(p99 {it.answered['p99'] * 1e3:.1f} ms). From exec to the first answer {start.seconds:.1f} s; "
        f"the web worker has {start.memory / 1e6:.0f} MB then."
    )


def table(titles: list[str], rows: Iterable[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
