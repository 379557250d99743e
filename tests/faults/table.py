"""The table of faults: what is done, what a client sees of it, what recovers and how, and on which engine it was tried.

A fault has a row when all tests of it that have just been run have passed. The last test of such a run compares the
table with docs/reference/faults.md; `make test-faults` writes it there.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.support.servers import ROOT

PAGE = ROOT / "docs" / "reference" / "faults.md"
PAGE_HEAD = """\
<!-- Generated from tests/faults by `make test-faults`, do not edit. -->

# Faults

Each fault in this table is inflicted on a running server while other clients stream. Afterwards a test checks:

- every stream has exactly one last record, unless its connection was cut;
- the engine runs nothing for clients that are gone;
- memory and descriptors are as before;
- the next request is answered.

A fault has a row only when all of its tests have passed.

"""
HEAD = "| fault | what a client sees | what recovers, and how | tested on |\n|---|---|---|---|\n"

# In the order of the table.
FAULTS = {
    "`kill -9` of a web worker": (
        "its connections end without a last record; the other web workers continue",
        "gunicorn starts another one; the engine cancels the requests of the dead one",
    ),
    "`kill -9` of the engine host": (
        "streams pause, and continue when it is back; new requests get a 503 with `Retry-After` meanwhile",
        "the engine workers exit with it; gunicorn or systemd starts it again, and it loads the pinned models",
    ),
    "`kill -9` of an engine worker": (
        "its streams pause, and continue on the new engine; new requests get a 503 with `Retry-After` meanwhile",
        "the host starts another one",
    ),
    "`kill -9` of vLLM's EngineCore": (
        "its streams pause, and continue on the new engine; new requests get a 503 with `Retry-After` meanwhile",
        "the engine worker exits, and the host starts another one",
    ),
    "`SIGSTOP` of an engine worker": (
        "heartbeats alone for `VLLM_WSGI_ENGINE_TIMEOUT`; then the same as after `kill -9`",
        "the host notices the missing pulse, kills it and starts another one",
    ),
    "`SIGSTOP` of vLLM's EngineCore": (
        "heartbeats alone for `VLLM_WSGI_ENGINE_TIMEOUT`; then the same as after `kill -9`",
        "the engine worker reports that its engine does not answer; the host kills it and starts another one",
    ),
    "`SIGSTOP` of the engine host": (
        "streams go on; new requests end with an error, the first ones after 20 s: a 503 with `Retry-After`",
        "requests are served again as soon as the host goes on",
    ),
    "`SIGSTOP` of the engine host and an engine worker": (
        "heartbeats alone for `VLLM_WSGI_ENGINE_TIMEOUT`, and for 20 s at least; then streams that may not move end "
        "with an error record, and new requests get a 503 with `Retry-After`",
        "requests are served again as soon as both go on",
    ),
    "`kill -9` of one of two replicas": (
        "its streams pause for a moment, and continue on the other one; new requests are served",
        "the host starts another one",
    ),
    "`SIGSTOP` of one of two replicas": (
        "heartbeats alone for `VLLM_WSGI_ENGINE_TIMEOUT` in its streams; then they continue on the other one",
        "the host notices the missing pulse, kills it and starts another one; new requests go to the other one",
    ),
    "`SIGTERM` of one of two replicas": (
        "its streams pause for a moment, and continue on the other one; new requests are served",
        "the host starts another one",
    ),
    "`vllm-wsgi restart` of two replicas": (
        "streams pause for a moment when their replica is asked to end, and continue on the other one",
        "each replica is replaced when the one before it is ready",
    ),
    "a client's connection that breaks again and again": (
        "the client of a resumable stream reads the rest at any web worker, also while a web worker or the engine dies",
        "the engine keeps the answer; without `resumable` it cancels the generation",
    ),
    "a full disk under the model store": (
        "uploads and new models get a 507; models are served as before",
        "everything, as soon as there is space; no half-written file stays",
    ),
    "a client that reads one byte a second": (
        "an error record, when the kernel's buffers are full, 4,096 tokens wait and 5 s have passed",
        "its generation is cancelled and its waiting tokens are dropped; other clients are not affected",
    ),
    "500 clients that vanish mid-stream": (
        "other clients are not affected",
        "a second later the engine runs nothing for them; their memory and descriptors are free",
    ),
    "1,000 connections that send half a header": (
        "a 408 in JSON after `VLLM_WSGI_HEADER_TIMEOUT`; other clients are not affected",
        "the memory and descriptors of the connections",
    ),
    "a body that never ends": (
        "a 408 after `VLLM_WSGI_BODY_TIMEOUT`, a 413 above `VLLM_WSGI_MAX_BODY`; the connection is closed",
        "the memory and the descriptor of the connection",
    ),
}


def fault(name: str) -> pytest.MarkDecorator:
    """Mark a test with the fault that it inflicts."""
    assert name in FAULTS
    return pytest.mark.fault(name)


class Survived:
    """Which faults have passed all of their tests so far, and on which engine."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._engines: dict[str, set[str]] = defaultdict(set)

    def add(self, fault: str, engine: str, passed: bool) -> None:
        """Add one phase of one test: set-up, the test itself or tear-down."""
        self._engines[fault].add(engine)
        if not passed:
            self._failed.add(fault)

    def faults(self) -> list[str]:
        return [fault for fault in FAULTS if fault in self._engines.keys() - self._failed]

    def table(self) -> str:
        return HEAD + "".join(self._row(fault) for fault in self.faults())

    def _row(self, fault: str) -> str:
        return f"| {' | '.join([fault, *FAULTS[fault], ', '.join(sorted(self._engines[fault]))])} |\n"


def page(table: str) -> str:
    """Return the page with this table."""
    return PAGE_HEAD + table
