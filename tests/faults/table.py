"""The README's table of faults: what is done, what a client sees of it, what comes back and how, and on which engine.

A fault has a row when all tests of it that have just been run have passed. The last test of such a run compares the
table with the README's; `make faults` puts it there.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.support.servers import ROOT

README = ROOT / "README.md"
HEAD = "| fault | what a client sees | what comes back | tested on |\n|---|---|---|---|\n"

# In the order of the table.
FAULTS = {
    "`kill -9` of a web worker": (
        "its connections end, without a last record; those of the other web workers go on",
        "gunicorn starts another one; the engine drops what the dead one had asked for",
    ),
    "`kill -9` of the engine host": (
        "streams end with an error record; then 503 with `Retry-After`",
        "the engine workers end with it; gunicorn or systemd starts it again, and it loads the pinned models",
    ),
    "`kill -9` of an engine worker": (
        "streams of its model end with an error record; then 503 with `Retry-After`",
        "the host starts another one",
    ),
    "`kill -9` of vLLM's EngineCore": (
        "streams of its model end with an error record; then 503 with `Retry-After`",
        "the engine worker ends, and the host starts another one",
    ),
    "`SIGSTOP` of an engine worker": (
        "silence for `VLLM_WSGI_ENGINE_TIMEOUT`, with heartbeats; then as if it had been killed",
        "the host notices the missing pulse, kills it and starts another one",
    ),
    "a full disk under the model store": (
        "uploads and new models are a 507; what is served goes on",
        "everything, as soon as there is room; nothing half written stays",
    ),
    "a client that reads one byte a second": (
        "an error record, once what the kernel buffers for it is full, 4,096 tokens wait and 5 s have passed",
        "its generation is cancelled, what waited for it is dropped; the others notice nothing",
    ),
    "500 clients that vanish mid-stream": (
        "the others notice nothing",
        "the engine runs nothing for them a second later; their memory and descriptors are free",
    ),
    "1,000 connections that send half a header": (
        "a 408 in JSON after `VLLM_WSGI_HEADER_TIMEOUT`; the others notice nothing",
        "the connections' memory and descriptors",
    ),
    "a body that never ends": (
        "a 408 after `VLLM_WSGI_BODY_TIMEOUT`, a 413 over `VLLM_WSGI_MAX_BODY`, and the connection's end",
        "the connection's memory and descriptor",
    ),
}


def fault(name: str) -> pytest.MarkDecorator:
    """Marks a test of one of them."""
    assert name in FAULTS
    return pytest.mark.fault(name)


class Survived:
    """What the tests that have run so far say of each fault."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._engines: dict[str, set[str]] = defaultdict(set)

    def add(self, fault: str, engine: str, passed: bool) -> None:
        """One phase of one test: set-up, the test itself, tear-down."""
        self._engines[fault].add(engine)
        if not passed:
            self._failed.add(fault)

    def faults(self) -> list[str]:
        return [fault for fault in FAULTS if fault in self._engines.keys() - self._failed]

    def table(self) -> str:
        return HEAD + "".join(self._row(fault) for fault in self.faults())

    def _row(self, fault: str) -> str:
        return f"| {' | '.join([fault, *FAULTS[fault], ', '.join(sorted(self._engines[fault]))])} |\n"


def table_in_readme() -> str:
    """Up to the empty line below it."""
    return HEAD + README.read_text().partition(HEAD)[2].partition("\n\n")[0] + "\n"


def write_to_readme(table: str) -> None:
    README.write_text(README.read_text().replace(table_in_readme(), table))
