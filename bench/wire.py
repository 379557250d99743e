"""`python -m bench.wire`: what a token costs the queue's two ends over a Unix socket, over TCP, and over TLS.

One message of 64 tokens comes every 2 ms, from the listener of an engine worker to the connection of a web worker with
gevent. Each end is a process of its own. The kinds of sockets take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STREAMS, STEP_SECONDS = 64, 0.002
KINDS = ("Unix socket", "TCP", "TLS")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--end", nargs=4, metavar=("WHICH", "ADDRESS", "TLS", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.end:
        which, address, tls, seconds = arguments.end
        {"engine": engine_end, "web": web_end}[which](address, tls, float(seconds))
        return
    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="wire-") as directory:
        for _ in range(arguments.rounds):
            for kind in KINDS:
                costs[kind].append(measured(kind, Path(directory)))
    print("µs of CPU a token (engine, web), medians:")
    for kind, pairs in costs.items():
        engine, web = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"{kind:12} {engine:.2f} {web:.2f}")


def measured(kind: str, directory: Path, seconds: float = 5.0) -> tuple[float, float]:
    """Return the microseconds of CPU that a token costs the engine worker's end and the web worker's."""
    address, tls = _place(kind, directory)
    engine = _start("engine", address, tls["engine"], seconds)
    assert engine.stdout is not None
    assert engine.stdout.readline() == "ready\n"
    web = _start("web", address, tls["web"], seconds)
    costs = json.loads(engine.stdout.readline()), json.loads(web.communicate()[0])
    engine.kill()
    engine.wait()
    return costs


def _place(kind: str, directory: Path) -> tuple[str, dict[str, str]]:
    """Return a new address, and the directory of the certificates of each end."""
    from tests.support.certificates import certify

    if kind == "Unix socket":
        return str(directory / f"{time.monotonic_ns()}.sock"), {"engine": "", "web": ""}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    if kind == "TCP":
        return f"tcp://127.0.0.1:{port}", {"engine": "", "web": ""}
    ends = {"engine": True, "web": False}
    return f"tls://127.0.0.1:{port}", {
        end: certify(directory, ["127.0.0.1", end], engine=is_engine) for end, is_engine in ends.items()
    }


def _start(which: str, address: str, tls: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.wire", "--end", which, address, tls, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def engine_end(address: str, tls: str, seconds: float) -> None:
    """Play the engine worker: say "ready", and print the cost when the time is over."""
    import uvloop

    uvloop.run(_play(address, tls, seconds))


async def _play(address: str, tls: str, seconds: float) -> None:
    from service.engine.listener import Emit, Push, listen
    from service.protocol.commands import Submit
    from service.protocol.events import Delta
    from service.transport.address import parse_address

    emits: dict[int, Emit] = {}

    async def answer(command: Submit, emit: Emit) -> None:
        emits[command.id] = emit
        await asyncio.sleep(3600)

    listening = await listen(parse_address(address), {Submit: Push(answer)}, tls)
    print("ready", flush=True)
    while len(emits) < STREAMS:
        await asyncio.sleep(0.01)
    began, due, end, steps = time.process_time(), time.monotonic(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for number, emit in emits.items():
            emit(Delta(number, steps, "word ", [steps]))
        steps, due = steps + 1, due + STEP_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    print(json.dumps((time.process_time() - began) / steps / STREAMS * 1e6), flush=True)
    await asyncio.sleep(3600)
    listening.close()


def web_end(address: str, tls: str, seconds: float) -> None:
    """Play the web worker, and print the cost of all but the first half second and the last."""
    from gevent import monkey

    monkey.patch_all()

    from service.engine_client.connections import Connections
    from service.engine_client.inbox import Inbox
    from service.protocol.commands import Submit
    from service.protocol.events import Delta
    from service.protocol.request import Request, Text

    class Counting:
        tokens = 0

        def take(self, delta: Delta) -> bool:
            self.tokens += len(delta.token_ids)
            return True

        def settle(self) -> None:
            """Nothing is left."""

    counting = Counting()
    connection = Connections(address, tls).control()
    for number in range(1, STREAMS + 1):
        inbox = Inbox(number)
        # As while a stream's own greenlet waits for events.
        inbox.fast_path, inbox._asleep = counting, True
        connection.send(Submit(number, Request("m", Text("a"))), inbox)
    time.sleep(0.5)
    began, before = time.process_time(), counting.tokens
    time.sleep(seconds - 1.0)
    print(json.dumps((time.process_time() - began) / (counting.tokens - before) * 1e6))


if __name__ == "__main__":
    main()
