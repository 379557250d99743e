"""The tables of docs/explanation/scale.md, each between its marks."""

from __future__ import annotations

from ..tables import table
from .costs import Costs
from .results import ScaleResults

MILLION = 1_000_000
# What the page plans for.
WEB_MACHINES, WEB_WORKERS, TOKENS_PER_SECOND = 200, 8, 10


def written(page: str, results: ScaleResults) -> str:
    """Return the page with the tables of these results in place of those that it has."""
    for name, text in tables(results).items():
        begin, end = f"<!-- {name}: written by python -m bench.scale -->", f"<!-- {name}: end -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"
    return page


def tables(results: ScaleResults) -> dict[str, str]:
    return {
        "host": host_table(results),
        "million": million_table(results),
        "check": check_table(results),
        "machine": f"Measured on {results.date}: {machine(results)}.",
    }


def machine(results: ScaleResults) -> str:
    here = results.machine
    programs = ", ".join(f"{name} {here.versions[name]}" for name in ("Python", "Linux") if name in here.versions)
    return f"{here.cores} cores ({here.processor}), a load of {here.busy:.1f} at the beginning, {programs}"


def host_table(results: ScaleResults) -> str:
    pulse = results.real.pulse
    titles = ["replicas", "pulses, % of a core", "CPU for a request, µs: seldom", "with a full loop",
              "requests/s at most", "memory, MB"]  # fmt: skip
    rows = [
        [
            str(host.replicas), f"{host.replicas * pulse * 100:.1f}", f"{host.seldom * 1e6:.0f}",
            f"{host.locate * 1e6:.0f}", f"{host.limit(pulse):,.0f}", f"{host.memory / 1e6:.0f}",
        ]
        for host in results.costs.hosts
    ]  # fmt: skip
    return table(titles, rows)


def million_table(results: ScaleResults) -> str:
    """What a million streams need of each part."""
    costs, host, million = results.costs, results.costs.hosts[-1], results.million
    streams = MILLION / WEB_MACHINES
    cores = streams * TOKENS_PER_SECOND * costs.web.token
    rows = [
        [
            "engine host",
            "how long a stream must last on average, seconds",
            f"{MILLION / host.limit(results.real.pulse):,.0f}",
        ],
        ["engine host", "its loop at 1,000 requests/s, % busy (simulated)", f"{million.busy * 100:.0f}"],
        ["replica", "streams of the fullest one, over the mean (simulated)", f"{million.most:.2f}"],
        ["web machine", f"streams, with {WEB_MACHINES} of them", f"{streams:,.0f}"],
        ["web machine", "memory of its streams, MB", f"{streams * costs.web.stream_bytes / 1e6:,.0f}"],
        ["web machine", f"cores at {TOKENS_PER_SECOND} tokens/s a stream", f"{cores:.1f}"],
        *connection_rows(costs),
    ]
    return table(["part", "what", "value"], rows)


def connection_rows(costs: Costs) -> list[list[str]]:
    """Each web worker may have a connection to each replica."""
    replicas, of_replica, one = 1000, WEB_MACHINES * WEB_WORKERS, costs.connection
    return [
        ["web worker", "connections to 1,000 replicas: memory, MB", f"{replicas * one.web_bytes / 1e6:.0f}"],
        ["web worker", "their signs of life, % of a core", f"{replicas * one.web_cores * 100:.1f}"],
        ["engine worker", f"connections of {of_replica:,} web workers: memory, MB",
         f"{of_replica * one.engine_bytes / 1e6:.0f}"],
        ["engine worker", "their signs of life, % of a core", f"{of_replica * one.engine_cores * 100:.1f}"],
    ]  # fmt: skip


def check_table(results: ScaleResults) -> str:
    """What was measured with real processes, over what the made-up workers and the simulation say."""
    real = results.real
    rows = [
        ["CPU of the host for a request", f"{real.request / results.request:.2f}"],
        ["streams of the fullest replica, over the mean", f"{real.most / results.expected.most:.2f}"],
    ]
    return table([f"{real.replicas} replicas and {real.web_workers} web workers", "measured over expected"], rows)
