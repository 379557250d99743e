"""Routing and control of many replicas, simulated with measured costs.

In: how many replicas, models and requests there are, and what a request and a pulse cost the host. Out: how evenly the
streams are spread, and how long requests wait for the host. The replica is chosen by the product's own Router, from
what a host knows: each replica's last pulse, and the requests that were sent there since.

The host's loop does one thing at a time. A request or a pulse that comes meanwhile waits for its turn.
"""

from __future__ import annotations

import heapq
import random
import statistics

import msgspec

from service.engine.host.routing import Router

PULSE_SECONDS = 1.0


class World(msgspec.Struct, frozen=True):
    """`rate` requests per second, each of which streams for `duration` seconds on average; `seconds` are simulated.

    `locate` and `pulse` are what they cost the host, in CPU seconds. A part of the requests continue one of the
    `conversations`; none when 0.
    """

    replicas: int
    models: int
    rate: float
    duration: float
    seconds: float
    locate: float
    pulse: float
    conversations: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """`streams` run at the end. `most` is what the fullest replica has, over the mean of all replicas.

    `busy` is the part of the time that the host works, and `p50` and `p99` are a request's waits in seconds.
    """

    streams: int
    most: float
    busy: float
    p50: float
    p99: float


class Replica:
    """One engine worker: what runs in it, and what the host believes."""

    def __init__(self) -> None:
        self.running = self.seen = self.unseen = 0

    def pulse(self) -> None:
        self.seen, self.unseen = self.running, 0


def simulate(world: World, seed: int = 1) -> Outcome:
    return _Simulation(world, random.Random(seed)).run()


class _Simulation:
    def __init__(self, world: World, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        each = world.replicas // world.models
        self._models = [{str(number): Replica() for number in range(each)} for _ in range(world.models)]
        self._routers = [Router() for _ in self._models]
        self._replicas = [replica for model in self._models for replica in model.values()]
        # What ends, by its time; a number tells apart what ends at the same time.
        self._ends: list[tuple[float, int, Replica]] = []
        self._pulses = [(chance.random() * PULSE_SECONDS, number) for number in range(len(self._replicas))]
        heapq.heapify(self._pulses)
        self._free_at = self._worked = 0.0
        self._waits: list[float] = []

    def run(self) -> Outcome:
        now, number = 0.0, 0
        while (now := now + self._chance.expovariate(self._world.rate)) < self._world.seconds:
            self._until(now)
            number += 1
            self._waits.append(self._work(now, self._world.locate))
            replica = self._chosen()
            replica.unseen += 1
            replica.running += 1
            heapq.heappush(self._ends, (now + self._chance.expovariate(1 / self._world.duration), number, replica))
        running = [replica.running for replica in self._replicas]
        waits = sorted(self._waits)
        most = max(running) / statistics.mean(running) if any(running) else 0.0
        busy = min(1.0, self._worked / self._world.seconds)
        return Outcome(sum(running), most, busy, waits[len(waits) // 2], waits[len(waits) * 99 // 100])

    def _until(self, now: float) -> None:
        """Let all pulses come and all streams end that do so before."""
        while self._pulses[0][0] <= now:
            at, number = self._pulses[0]
            self._ended(at)
            self._replicas[number].pulse()
            self._work(at, self._world.pulse)
            heapq.heapreplace(self._pulses, (at + PULSE_SECONDS, number))
        self._ended(now)

    def _ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            heapq.heappop(self._ends)[2].running -= 1

    def _work(self, at: float, seconds: float) -> float:
        """Give the host something to do. Return how long it takes until that is done."""
        self._free_at = max(self._free_at, at) + seconds
        self._worked += seconds
        return self._free_at - at

    def _chosen(self) -> Replica:
        index = self._chance.randrange(len(self._models))
        model = self._models[index]
        loads = {name: replica.seen + replica.unseen for name, replica in model.items()}
        conversations = self._world.conversations
        beginning = str(self._chance.randrange(conversations)) if conversations else ""
        return model[self._routers[index].choose(beginning, loads)]
