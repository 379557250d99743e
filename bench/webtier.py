"""The web tier alone: one gevent worker in front of an engine that plays a script.

The script's tokens come in steps, as vLLM's do, and some streams bring the engine's clock, so that what the web tier
adds in time can be told. What is measured is a window in which all streams are open, not how they begin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection

import msgspec

from .cpu import WEB, used
from .load import Outcome
from .rounds import Failed, expect, outcome_of, percentiles, tell
from .servers import Ours

# So many of the streams tell when their tokens were made.
PROBES = 10
# More than any window lasts.
ENDLESS = 10_000_000
# Between two requests that are made while thousands of streams are silent.
ASK_SECONDS = 0.25


class Steady(msgspec.Struct):
    """`streams` at `rate` tokens a second each, for `seconds`. `cpu` by part, in seconds; `late` in seconds."""

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
        """Of the web worker's CPU, per token."""
        return self.cpu.get(WEB, 0.0) / max(1, self.tokens) * 1e6


class Silent(msgspec.Struct):
    """`streams` that are open and say nothing: bytes each of the web worker's memory, and what new requests take."""

    streams: int
    bytes_each: float
    answered: dict[str, float]
    cores: float


class Start(msgspec.Struct):
    """From exec to the first answer, in seconds, and the web worker's memory then, in bytes."""

    seconds: float
    memory: float


def steady(side: Ours, streams: int, rate: float, seconds: float) -> Steady:
    """Raises Failed."""
    apart = max(1, streams // PROBES)
    words, clock = f"!step:{rate:g} !repeat:{ENDLESS}:word~", f"!step:{rate:g} !clock:{ENDLESS}"
    questions = [words if number % apart else clock for number in range(streams)]
    outcome, cpu = _window(side, questions, apart, seconds, lambda: time.sleep(seconds))
    return Steady(
        streams, rate, outcome.seconds, outcome.tokens, cpu, outcome.load_cpu, outcome.reads, percentiles(outcome.late)
    )


def silent(side: Ours, streams: int, seconds: float) -> Silent:
    """Raises Failed."""
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
    talker, processes = side.talker, side.processes()
    tell(talker, task)
    talker.say("go")
    if talker.hear() != "begun":
        outcome_of(side)
        raise Failed("the streams did not begin")
    before = processes.cpu()
    meanwhile()
    expect(talker, "done")
    cpu = used(before, processes.cpu())
    return outcome_of(side), cpu


def ask_once(port: int) -> float:
    """How long a new request's whole answer takes: a connection, one token, the end."""
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
