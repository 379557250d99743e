"""What the control of many replicas costs on this machine: the engine host, a web worker, and connections."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from service.engine_client.client import Client

from ..cpu import cpu_seconds
from ..servers import ROOT, Ours, Program, free_port
from ..webtier import silent, steady
from .asking import Asked, Order

MODEL_REPLICAS = 50
IDLE_SECONDS = 5.0
SELDOM = 100.0
START_SECONDS = 120.0


class HostCost(msgspec.Struct, frozen=True):
    """An engine host with this many `replicas` that are made up, and as many web workers as `connections`.

    `idle` is in cores: pulses, and what the host looks after. `locate` is in CPU seconds for a request, its report
    included, when the host's loop is full, and `seldom` at SELDOM requests per second: then nothing is done for several
    requests at once. `memory` is in bytes.
    """

    replicas: int
    connections: int
    idle: float
    locate: float
    seldom: float
    memory: float
    slow: Asked

    def limit(self, pulse: float) -> float:
        """Return how many requests per second it carries when each replica costs `pulse` CPU seconds each second."""
        return (1 - self.replicas * pulse) / self.locate


class WebCost(msgspec.Struct, frozen=True):
    """A web worker: bytes for a silent stream, CPU seconds for a token of many streams."""

    stream_bytes: float
    token: float


class ConnectionCost(msgspec.Struct, frozen=True):
    """An idle TCP connection between a web worker and an engine worker: bytes and cores of each end."""

    web_bytes: float
    web_cores: float
    engine_bytes: float
    engine_cores: float


class Costs(msgspec.Struct, frozen=True):
    """All that the simulation needs."""

    hosts: list[HostCost]
    web: WebCost
    connection: ConnectionCost


def measured(directory: Path, replicas: list[int], connections: int, seconds: float) -> Costs:
    hosts = [host_cost(directory, each, connections, seconds) for each in replicas]
    return Costs(hosts, web_cost(directory), connection_cost(directory, 500))


def models_toml(replicas: int) -> tuple[str, int]:
    """Return a models.toml with this many replicas, and how many models it has."""
    most = min(MODEL_REPLICAS, replicas)
    models = replicas // most
    tables = [
        f'[models.m{number}]\nsource = "{ROOT / "models/demo"}"\npinned = true\nreplicas = {most}\n'
        f"engine_args = {{ number = {number} }}\n"
        for number in range(models)
    ]
    return "".join(tables), models


def host_cost(directory: Path, replicas: int, connections: int, seconds: float) -> HostCost:
    with made_up_host(directory, replicas) as (host, socket, models):
        idle = _cores(host.pid, IDLE_SECONDS)
        before = cpu_seconds(host.pid)
        slow = asked(Order(socket, models, connections, seconds, rate=SELDOM))
        seldom = (cpu_seconds(host.pid) - before - idle * slow.seconds) / slow.answers
        before = cpu_seconds(host.pid)
        full = asked(Order(socket, models, connections, seconds))
        used = cpu_seconds(host.pid) - before - idle * full.seconds
        memory = float(psutil.Process(host.pid).memory_info().rss)
        # On a machine that does other work the loop gets less than a core. CPU time is counted all the same.
        return HostCost(replicas, connections, idle, used / full.answers, seldom, memory, slow)


@contextmanager
def made_up_host(directory: Path, replicas: int) -> Iterator[tuple[Program, str, int]]:
    """Run a host with workers that are made up; yield it, its control socket and the number of its models."""
    home = directory / f"host-{replicas}-{time.monotonic_ns()}"
    home.mkdir()
    text, models = models_toml(replicas)
    (home / "models.toml").write_text(text)
    socket = str(home / "engine.sock")
    env = {
        "VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_MODELS": str(home / "models.toml"), "VLLM_WSGI_STORE": str(home),
        "VLLM_WSGI_ENGINE_SOCKET": socket, "VLLM_WSGI_MAX_QUEUE": "0",
    }  # fmt: skip
    host = Program([sys.executable, "-m", "bench.scale.host"], home / "log", env)
    try:
        wait_until_ready(host, socket, replicas)
        yield host, socket, models
    finally:
        host.stop()


def wait_until_ready(host: Program, socket: str, replicas: int) -> None:
    """Return when every replica answers. Raises RuntimeError."""
    client, end = Client(socket, 10.0), time.monotonic() + START_SECONDS
    while not os.path.exists(socket) or ready_replicas(client) < replicas:
        if host.ended() or time.monotonic() > end:
            raise RuntimeError(host.trouble())
        time.sleep(0.2)


def ready_replicas(client: Client) -> int:
    return sum(replica.state == "ready" for model in client.loaded() for replica in model.replicas)


def asked(order: Order) -> Asked:
    """Have the host asked by a process of its own. Raises RuntimeError."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.scale.asking"], cwd=ROOT, input=msgspec.json.encode(order), capture_output=True
    )
    if run.returncode:
        raise RuntimeError(run.stderr.decode()[-2000:])
    return msgspec.json.decode(run.stdout, type=Asked)


def web_cost(directory: Path) -> WebCost:
    """Measure one web worker: thousands of silent streams, and hundreds that get tokens in steps as vLLM's do."""
    side = Ours.scripted(directory)
    try:
        side.wait_until_ready()
        still, moving = silent(side, 3000, 6.0), steady(side, 1000, 20, 4.0)
        return WebCost(still.bytes_each, moving.web_microseconds / 1e6)
    finally:
        side.stop()


def connection_cost(directory: Path, number: int) -> ConnectionCost:
    port = str(free_port())
    command = [sys.executable, "-m", "bench.scale.peers"]
    engine = Program([*command, "engine", port, "0"], directory / "engine-end.log", {}, talks=True)
    web = Program([*command, "web", port, str(number)], directory / "web-end.log", {}, talks=True)
    try:
        engine.receive()
        web.receive()
        before = [_memory(each) for each in (web, engine)]
        web.send("go")
        web.receive()
        began = [cpu_seconds(each.pid) for each in (web, engine)]
        time.sleep(2 * IDLE_SECONDS)
        cores = [
            (cpu_seconds(each.pid) - at) / (2 * IDLE_SECONDS) / number
            for each, at in zip((web, engine), began, strict=True)
        ]
        sizes = [(_memory(each) - at) / number for each, at in zip((web, engine), before, strict=True)]
        return ConnectionCost(sizes[0], cores[0], sizes[1], cores[1])
    finally:
        web.stop()
        engine.stop()


def _cores(pid: int, seconds: float) -> float:
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


def _memory(program: Program) -> float:
    return float(psutil.Process(program.pid).memory_info().rss)
