"""Measures the web tier alone: one gevent worker in front of an engine that plays a script.

The script's tokens come in steps, as vLLM's do. Some streams carry the engine's clock, which shows how much time the
web tier adds. The measurement is a window in which all streams are open; their beginning is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection

import msgspec

from .cpu import WEB, used
from .load import Outcome
from .rounds import Failed, expect, outcome_of, percentiles, send_task
from .servers import Ours

# How many of the streams carry the times at which their tokens were made.
PROBES = 10
# More tokens than any window has.
ENDLESS = 10_000_000
# The pause between two requests while thousands of streams are silent.
ASK_SECONDS = 0.25


class Steady(msgspec.Struct):
    """`streams` at `rate` tokens a second each, for `seconds`. `cpu` (by part) and `late` are in seconds."""

    streams: int
    rate: float
    seconds: float
    tokens: int
    cpu: dict[str, float]
    load_cpu: float
    reads: int
    late: dict[str, float]

    @property
    def offered(self) -> float:
        return self.streams * self.rate

    @property
    def delivered(self) -> float:
        return self.tokens / self.seconds

    @property
    def web_microseconds(self) -> float:
        """Return the web worker's CPU time in microseconds a token."""
        return self.cpu.get(WEB, 0.0) / max(1, self.tokens) * 1e6


class Silent(msgspec.Struct):
    """`streams` that are open and silent: the web worker's memory for each in bytes, and the times of new requests."""

    streams: int
    bytes_each: float
    answered: dict[str, float]
    cores: float


class Start(msgspec.Struct):
    """The seconds from exec to the first answer, and the web worker's memory then, in bytes."""

    seconds: float
    memory: float


def steady(side: Ours, streams: int, rate: float, seconds: float) -> Steady:
    """Measure it. Raises Failed."""
    apart = max(1, streams // PROBES)
    words, clock = f"!step:{rate:g} !repeat:{ENDLESS}:word~", f"!step:{rate:g} !clock:{ENDLESS}"
    questions = [words if number % apart else clock for number in range(streams)]
    outcome, cpu = _window(side, questions, apart, seconds, lambda: time.sleep(seconds))
    return Steady(
        streams, rate, outcome.seconds, outcome.tokens, cpu, outcome.load_cpu, outcome.reads, percentiles(outcome.late)
    )


def silent(side: Ours, streams: int, seconds: float) -> Silent:
    """Measure it. Raises Failed."""
    before, after, answered = side.processes().memory()[WEB], [0.0], []

    def ask() -> None:
        end = time.monotonic() + seconds - 1
        while time.monotonic() < end:
            answered.append(ask_once(side.port))
            time.sleep(ASK_SECONDS)
        after[0] = side.processes().memory()[WEB]

    _, cpu = _window(side, [f"word~ !sleep:{seconds * 100:g}"] * streams, 0, seconds, ask)
    return Silent(streams, (after[0] - before) / streams, percentiles(answered), cpu[WEB] / seconds)


def _window(
    side: Ours, questions: list[str], probes: int, seconds: float, meanwhile: Callable[[], None]
) -> tuple[Outcome, dict[str, float]]:
    task = msgspec.structs.replace(side.task(questions, ENDLESS), window=seconds, probes=probes)
    generator, processes = side.generator, side.processes()
    send_task(generator, task)
    generator.send("go")
    if generator.receive() != "begun":
        outcome_of(side)
        raise Failed("the streams did not begin")
    before = processes.cpu()
    meanwhile()
    expect(generator, "done")
    cpu = used(before, processes.cpu())
    return outcome_of(side), cpu


def ask_once(port: int) -> float:
    """Return how long a new request's whole answer takes: a connection, one token, the end."""
    body = {"model": "endless", "messages": [{"role": "user", "content": "word~"}], "stream": False}
    began = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/api/chat", json.dumps(body))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise Failed(f"a new request was answered with {answer.status}")
    return time.monotonic() - began
