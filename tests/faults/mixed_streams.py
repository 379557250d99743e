"""Streams of a real engine, of every kind and dialect at once, and how they compare with undisturbed ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.faults import dialect_streams
from tests.faults.dialect_streams import OTHERS
from tests.faults.test_engine_core import KINDS, PATHS, READY_SECONDS, Records, whole
from tests.support.asking import Asker
from tests.support.servers import Server
from tests.support.waiting import PATIENCE_SECONDS, one_is_done, until

NATIVES = [(PATHS[next(iter(kind))], kind) for kind in KINDS]
STREAMS = 2 * len(NATIVES) + len(OTHERS)
# The first of the streams last longest, so that they must not end before the harm is done.
LONGEST = 2
Streams = list[Future[Any]]


def begin(url: str, asker: Asker, pool: ThreadPoolExecutor, model: str = "demo") -> Streams:
    """Ask for all of them at once. `asker` asks for the same `model`."""

    def native(read: Callable[..., Records], path: str, body: dict[str, Any]) -> Any:
        return whole(read(path, **body))

    natives = [pool.submit(native, read, *each) for each in NATIVES for read in (asker.ndjson, asker.sse)]
    others = [(path, {**body, "model": model}) for path, body in OTHERS]
    return natives + [pool.submit(dialect_streams.ask, url, *each, READY_SECONDS) for each in others]


@contextmanager
def mixed_streams(url: str, model: str = "demo") -> Iterator[Streams]:
    """All of them, asked at once."""
    asker = Asker(url, model)
    with ThreadPoolExecutor(STREAMS) as pool:
        yield begin(url, asker, pool, model)
    asker.close()


def assert_all_are_whole(streams: Streams, undisturbed: list[Any], unless: Callable[[], str] = lambda: "") -> None:
    """Fails as soon as `unless` returns why they can't end any more."""
    took = until(lambda: all(stream.done() for stream in streams), READY_SECONDS, "every stream ends", unless, 0.1)
    differing = [
        (number, stream.result(), answer)
        for number, (stream, answer) in enumerate(zip(streams, undisturbed, strict=True))
        if stream.result() != answer
    ]
    print(f"{len(streams)} streams ended after {took:.2f} s; {len(differing)} differ")
    assert differing == []


def replicas(server: Server) -> list[dict[str, Any]]:
    return list(server.status().get("replicas", []))


def wait_until_both_run(server: Server, streams: Streams) -> None:
    until(
        lambda: all(replica["running"] >= 4 for replica in replicas(server)), PATIENCE_SECONDS,
        "streams run on both", one_is_done(streams[:LONGEST]),
    )  # fmt: skip


def moved(server: Server) -> int:
    """How many requests have moved so far, by the request log."""
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith('{"time"')]
    return sum(line["moves"] > 0 for line in lines)


@contextmanager
def some_move(server: Server) -> Iterator[None]:
    """At least one stream moves meanwhile."""
    before = moved(server)
    yield
    print(f"{moved(server) - before} of them moved")
    assert moved(server) > before
