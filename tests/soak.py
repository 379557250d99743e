"""Everything at once, for long, and what grows meanwhile: `python -m tests.soak --minutes 10`, or `make soak`.

A mixed load on the scripted engine goes on in rounds. After each of them, when nothing runs any more, it is looked at
what the server holds; nothing of that may grow from the first round to the last. The exit status is 1 where it does.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.faults.load import THREADS, Holdings, holdings
from tests.support.answers import NDJSON, SSE, chat, generate, parse, terminal, text
from tests.support.servers import ROOT, SCRIPTED, Server
from tests.support.waiting import until

MODELS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true

[models.cold]
source = "{ROOT}/models/demo"
engine_args = {{ max_num_seqs = 8 }}
"""
CLIENTS = 16
ROUNDS = 10
# What the allocator of four processes has at hand differs by some megabytes from one quiet moment to the next. What a
# request leaks comes thousands of times a minute, and in every round.
MEMORY = 12 * 2**20
# The connection to a model that has been unloaded is closed a moment later, at both ends.
FILES = 2


class Sample(NamedTuple):
    """What the processes that last (the web worker, the host, the pinned model's worker) hold at a quiet moment."""

    requests: int
    holdings: Holdings
    greenlets: int
    running: int


class Client:
    """One of those that ask, each in its own order. What it gets must be what it asked for, or it raises."""

    def __init__(self, server: Server, seed: int, counts: Counter[str]) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=120)
        self._random = random.Random(seed)
        self._counts = counts

    def run(self, ends_at: float) -> None:
        # Cold loads take an engine's start each, so that they are few.
        deeds = [self.stream, self.collect, self.embed, self.cancel, self.fail, self.list, self.load]
        while time.monotonic() < ends_at:
            (deed,) = self._random.choices(deeds, weights=[40, 20, 10, 15, 15, 5, 0.2])
            deed()
            self._counts[deed.__name__] += 1
        self._http.close()

    def stream(self) -> None:
        media_type, stream = self._random.choice([(NDJSON, True), (SSE, "sse")])
        answer = self._http.post("/api/chat", json=chat("!rate:200 !repeat:20:word", stream=stream))
        records = parse(answer.content, media_type)
        assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True]
        assert text(records) == "word " * 20

    def collect(self) -> None:
        path, body = self._random.choice([
            ("/api/chat", chat("a b", stream=False)), ("/v1/chat/completions", chat("a b")),
            ("/v1/messages", chat("a b", max_tokens=9)), ("/v1/responses", {"model": "demo", "input": "a b"}),
            ("/v1/completions", generate("a b")),
        ])  # fmt: skip
        assert "a b" in self._http.post(path, json=body).text

    def embed(self) -> None:
        answer = self._http.post("/api/embed", json={"model": "demo", "input": ["a", "b c", "d"]})
        assert len(answer.json()["embeddings"]) == 3

    def cancel(self) -> None:
        with self._http.stream("POST", "/api/chat", json=chat("a !rate:2 !repeat:100:b")) as answer:
            next(answer.iter_raw())

    def fail(self) -> None:
        path, body, status = self._random.choice([
            ("/api/chat", chat("!refuse:no"), 400), ("/api/chat", chat("a !fail:broken"), 200), ("/api/x", {}, 404),
            ("/api/generate", {"model": "nobody"}, 404), ("/v1/chat/completions", {"model": 1}, 400),
        ])  # fmt: skip
        answer = self._http.post(path, json=body)
        assert (answer.status_code, '"error":' in answer.text) == (status, True)

    def list(self) -> None:
        for path in ("/api/tags", "/api/ps", "/api/status", "/v1/models"):
            assert self._http.get(path).status_code == 200

    def load(self) -> None:
        answer = self._http.post("/api/generate", json=generate("a", model="cold", stream=False, keep_alive=0))
        assert answer.json()["response"] == "a ", answer.text


class Soak:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.counts: Counter[str] = Counter()
        self._lasting = [server.master, *server.web_workers(), *server.engine_hosts(), *server.engine_workers()]

    def round(self, seconds: float) -> Sample:
        """The load for so long, and what is left of it."""
        ends_at = time.monotonic() + seconds
        clients = [Client(self._server, random.randrange(10**9), self.counts) for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            for each in [pool.submit(client.run, ends_at) for client in clients]:
                each.result()
        until(lambda: not self._running(), 120, "nothing runs any more")
        until(lambda: self._server.engine_workers() == self._lasting[-1:], 120, "the other model is unloaded")
        greenlets = int(httpx.get(f"{self._server.url}/watched/greenlets").text)
        return Sample(self.counts.total(), holdings(self._lasting), greenlets, self._running())

    def _running(self) -> int:
        models = httpx.get(f"{self._server.url}/api/status").json()["vllm_wsgi"]["models"]
        return sum(model["running"] + model["waiting"] for model in models)


def soak(directory: Path, seconds: float, rounds: int = ROUNDS) -> list[Sample]:
    """The samples after each of the rounds, of which the first is a warm-up. Fails on a wrong answer or a trace."""
    (directory / "models.toml").write_text(MODELS)
    env = {**SCRIPTED, "VLLM_WSGI_MODELS": str(directory / "models.toml")}
    server = Server(directory, env, app="tests.support.watched:create_watched_app()")
    try:
        server.wait_until_ready()
        watched = Soak(server)
        print(HEAD)
        samples = []
        for _ in range(rounds):
            samples.append(watched.round(seconds / rounds))
            print(row(samples[-1]), flush=True)
        print(dict(watched.counts))
        assert "Traceback" not in server.output, server.output
    finally:
        server.stop()
    return samples


HEAD = "requests  memory MB  descriptors  threads  greenlets  in the engine"


def row(sample: Sample) -> str:
    held = sample.holdings
    return (
        f"{sample.requests:8}  {held.memory / 2**20:9.1f}  {held.files:11}  {held.threads:7}"
        f"  {sample.greenlets:9}  {sample.running:13}"
    )


def grown(samples: list[Sample]) -> list[str]:
    """What the last sample has more of than the second, after which everything has been used once.

    Memory counts by the median round: an allocator that takes more in one round and keeps it does not leak.
    """
    (_, before, greenlets, _), (_, after, greenlets_after, running) = samples[1], samples[-1]
    rounds = [later.holdings.memory - earlier.holdings.memory for earlier, later in pairwise(samples[1:])]
    growth = {
        "memory": statistics.median(rounds) * len(rounds) > MEMORY,
        "descriptors": after.files > before.files + FILES,
        "threads": after.threads > before.threads + THREADS,
        "greenlets": greenlets_after > greenlets,
        "requests in the engine": running > 0,
    }
    return [what for what, grew in growth.items() if grew]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A mixed load, and what grows.")
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as directory:
        samples = soak(Path(directory), minutes * 60)
    if found := grown(samples):
        sys.exit(f"these grow: {', '.join(found)}")


if __name__ == "__main__":
    main()
