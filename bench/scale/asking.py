"""Asks an engine host as web workers do: `python -m bench.scale.asking`, an Order on stdin, an Asked on stdout.

Each connection is one web worker's. It asks where a model is (Locate), and once a second it reports the requests that
have ended (Count), as many as it has asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Coroutine

import msgspec

from service.protocol.commands import Count, Locate, RequestOutcome
from service.protocol.events import Failed
from service.protocol.wire import Unpacker, decode_events, pack

COUNT_SECONDS = 1.0
# Enough conversations for the host to remember as many as it ever does.
CONVERSATIONS = 20_000
OUTCOME = RequestOutcome(
    "/api/chat", "done", model="m0:latest", first=50_000_000, pause=40_000_000, speaking=2_000_000_000,
    queue=1_000_000, prompt_tokens=500, output_tokens=100, request_id="f" * 32, client="10.0.0.5", key="alice",
    method="POST", status=200,
)  # fmt: skip


class Order(msgspec.Struct, frozen=True):
    """Ask for `seconds` over this many `connections`, `rate` times a second in all; as fast as answers come when 0."""

    socket: str
    models: int
    connections: int
    seconds: float
    rate: float = 0.0


class Asked(msgspec.Struct, frozen=True):
    """How many were answered, in how many seconds, and how long an answer took: median and 99th percentile."""

    answers: int
    seconds: float
    p50: float
    p99: float


class WebWorker:
    """One connection to the host, and its questions that are not answered yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, models: int) -> None:
        self._reader, self._writer, self._models = reader, writer, models
        self._ids = itertools.count(1)
        self._asked: dict[int, float] = {}
        self._answered = asyncio.Event()
        self._uncounted = 0
        self.waits: list[float] = []

    async def ask(self) -> None:
        """Ask once, and wait for the answer."""
        self.send()
        self._answered.clear()
        await self._answered.wait()

    def send(self) -> None:
        question = next(self._ids)
        self._asked[question] = time.perf_counter()
        model, beginning = random.randrange(self._models), f"{random.randrange(CONVERSATIONS):032x}"
        self._writer.write(pack(Locate(question, f"m{model}", caller="alice", beginning=beginning)))

    async def receive(self) -> None:
        unpacker = Unpacker()
        while data := await self._reader.read(1 << 16):
            for payload in unpacker.feed(data):
                for event in decode_events(payload):
                    if isinstance(event, Failed):
                        raise RuntimeError(f"the host has refused a request: {event.message}")
                    if event.id in self._asked:
                        self.waits.append(time.perf_counter() - self._asked.pop(event.id))
                        self._uncounted += 1
            self._answered.set()

    async def count(self) -> None:
        """Report what has ended, once a second."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            if self._uncounted:
                self._writer.write(pack(Count(next(self._ids), [OUTCOME] * self._uncounted)))
                self._uncounted = 0


async def ask(order: Order) -> Asked:
    workers = [
        WebWorker(*await asyncio.open_unix_connection(order.socket), order.models) for _ in range(order.connections)
    ]
    chores = [asyncio.create_task(chore) for worker in workers for chore in (worker.receive(), worker.count())]
    began = time.perf_counter()
    asking = _at_a_rate(workers, order) if order.rate else _as_fast_as_possible(workers, order)
    await _unless_broken(chores, asking)
    seconds = time.perf_counter() - began
    waits = sorted(wait for worker in workers for wait in worker.waits)
    for chore in chores:
        chore.cancel()
    return Asked(len(waits), seconds, waits[len(waits) // 2], waits[len(waits) * 99 // 100])


async def _at_a_rate(workers: list[WebWorker], order: Order) -> None:
    """Requests of many clients come by chance: the pauses between them are distributed exponentially."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    end = due + order.seconds
    while (due := due + random.expovariate(order.rate)) < end:
        if (pause := due - loop.time()) > 0:
            await asyncio.sleep(pause)
        random.choice(workers).send()
    await asyncio.sleep(1.0)


async def _as_fast_as_possible(workers: list[WebWorker], order: Order) -> None:
    end = time.perf_counter() + order.seconds

    async def work(worker: WebWorker) -> None:
        while time.perf_counter() < end:
            await worker.ask()

    await asyncio.gather(*map(work, workers))


async def _unless_broken(chores: list[asyncio.Task[None]], asking: Coroutine[None, None, None]) -> None:
    """Wait until all is asked; raise what a connection broke with."""
    done = asyncio.create_task(asking)
    await asyncio.wait([done, *chores], return_when=asyncio.FIRST_COMPLETED)
    for chore in chores:
        if chore.done():
            done.cancel()
            raise chore.exception() or RuntimeError("the host has closed a connection")
    await done


def main() -> None:
    order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    print(msgspec.json.encode(asyncio.run(ask(order))).decode(), flush=True)


if __name__ == "__main__":
    main()
