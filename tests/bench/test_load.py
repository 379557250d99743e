"""The load generator against the web tier, on a scripted engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bench.load import Load, Outcome
from tests.support.answers import NDJSON, SSE, chat
from tests.support.servers import ROOT, Server


@pytest.fixture(scope="module")
def generator() -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "bench.load"]
    with subprocess.Popen(arguments, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def outcome(generator: subprocess.Popen[str], server: Server, script: str, **fields: Any) -> Outcome:
    """Three streams of the script; the words that the generator says on the way are as they should be."""
    load = Load(
        server.port, "/api/chat", "ollama", **{"accept": NDJSON, **fields}, bodies=[json.dumps(chat(script))] * 3
    )
    assert generator.stdin
    assert generator.stdout
    print(msgspec.json.encode(load).decode(), file=generator.stdin, flush=True)
    assert generator.stdout.readline() == "ready\n"
    print("go", file=generator.stdin, flush=True)
    for word in ["begun"] * bool(load.window) + ["done"]:
        assert generator.stdout.readline() == f"{word}\n"
    return msgspec.json.decode(generator.stdout.readline(), type=Outcome)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_every_token_of_every_stream_is_counted(generator: subprocess.Popen[str], server: Server, accept: str):
    found = outcome(generator, server, "!rate:200 !repeat:20:w", tokens=20, accept=accept)
    assert (found.failure, found.tokens, found.prompt_tokens) == ("", 60, 2)
    assert len(found.first) == 3
    assert 3 <= len(found.gaps) + 3 <= found.tokens
    assert found.load_cpu > 0


def test_a_stream_that_brings_less_is_a_failure(generator: subprocess.Popen[str], server: Server):
    assert outcome(generator, server, "one two", tokens=3).failure == "2 tokens, not 3"
    assert outcome(generator, server, "!refuse:never", tokens=3).failure.startswith("HTTP/1.1 400")


def test_a_window_counts_what_comes_in_it_and_how_late(generator: subprocess.Popen[str], server: Server):
    found = outcome(generator, server, "!step:50 !clock:100000", window=0.5, probes=1)
    assert (found.failure, found.tokens) == ("", len(found.late))
    assert found.tokens > 3
    assert min(found.late) > 0
    server.wait_until_idle()
