"""The simulation beside a real run: as many scripted replicas and web workers as this machine carries."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path

import msgspec
import psutil

from ..cpu import cpu_seconds
from ..model import NAME
from ..servers import ROOT, Ours, get

HOST = "service.engine.host"
ASK_SECONDS = 8.0


class Real(msgspec.Struct, frozen=True):
    """What was measured with this many `replicas` and `web_workers`.

    `idle` is in cores and `request` in CPU seconds of the host for each request. `streams` ran at once, and `most` is
    what the fullest replica had over the mean.
    """

    replicas: int
    web_workers: int
    idle: float
    request: float
    rate: float
    streams: int
    most: float

    @property
    def pulse(self) -> float:
        """CPU seconds of the host for a replica each second. Its socket is read, which a made-up replica lacks."""
        return self.idle / self.replicas


def real_run(directory: Path, replicas: int, web_workers: int, streams: int) -> Real:
    """Start it, measure, and stop it."""
    (directory / "real.toml").write_text(
        f'[models.{NAME}]\nsource = "{ROOT / "models/demo"}"\npinned = true\nreplicas = {replicas}\n'
        "engine_args = { max_num_seqs = 100000 }\n"
    )
    env = {
        "VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_MODELS": str(directory / "real.toml"),
        "WEB_CONCURRENCY": str(web_workers), "VLLM_WSGI_MAX_QUEUE": "0", "VLLM_WSGI_STORE": str(directory / "store"),
    }  # fmt: skip
    side = Ours(directory, env, "the real run")
    try:
        while len(_running(side)) < replicas:
            if side.program.ended():
                raise RuntimeError(side.program.trouble())
            time.sleep(0.2)
        host = _host_of(side)
        idle = _spent(host, 5.0) / 5.0
        clients = [_opened(side, index) for index in range(streams)]
        time.sleep(3.0)
        running = _running(side)
        most = max(running) * len(running) / max(1, sum(running))
        # The streams keep the replicas busy meanwhile, as on a server that needs so many.
        before = cpu_seconds(host)
        answers, seconds = _ask_many(side)
        request = (cpu_seconds(host) - before - idle * seconds) / answers
        for client in clients:
            client.close()
        return Real(replicas, web_workers, idle, request, answers / seconds, sum(running), most)
    finally:
        side.stop()


def _ask_many(side: Ours) -> tuple[int, float]:
    """Ask for answers of one token from several threads at once. Return how many came, and in how many seconds."""
    counts = [0] * 8
    began = time.monotonic()

    def ask(number: int) -> None:
        while time.monotonic() - began < ASK_SECONDS:
            client = _opened(side, counts[number] * len(counts) + number, "word", stream=False)
            client.getresponse().read()
            client.close()
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=[number]) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The reports of the last second come, too.
    time.sleep(1.5)
    return sum(counts), time.monotonic() - began


def _opened(
    side: Ours, number: int, script: str = "word !sleep:600", stream: bool = True
) -> http.client.HTTPConnection:
    """Ask for an answer to a conversation that no other request has."""
    client = http.client.HTTPConnection("127.0.0.1", side.port, timeout=60)
    message = {"role": "user", "content": f"{script} {number}" if stream else script}
    system = {"role": "system", "content": f"conversation {number}"}
    client.request("POST", "/api/chat", json.dumps({"model": NAME, "messages": [system, message], "stream": stream}))
    return client


def _running(side: Ours) -> list[int]:
    """The requests of each replica that is ready."""
    answer = get(side.port, "/api/status")
    models = json.loads(answer)["vllm_wsgi"]["models"] if answer else []
    replicas = [replica for model in models for replica in model["replicas"]]
    return [replica["running"] for replica in replicas if replica["state"] == "ready"]


def _host_of(side: Ours) -> int:
    children = psutil.Process(side.program.pid).children(recursive=True)
    (host,) = [each for each in children if HOST in each.cmdline()]
    return int(host.pid)


def _spent(pid: int, seconds: float) -> float:
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return cpu_seconds(pid) - before
