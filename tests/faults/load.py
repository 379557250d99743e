"""A bounded load, and what a server holds before and after it.

The load is clients that stream, one answer after the other, half of them in each format. Whatever is done to the server
meanwhile, an answer that is not cut off by the end of its own web worker has exactly one terminal record.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import psutil

from tests.support.answers import NDJSON, SSE, chat, parse, terminal, text
from tests.support.servers import Server
from tests.support.waiting import until

CLIENTS = 8
SCRIPT = "!rate:50 !repeat:10:word"
FORMATS: list[tuple[str, dict[str, Any]]] = [(NDJSON, {}), (SSE, {"stream": "sse"})]


class Load:
    """`clients` threads that ask until `stop`; `endings` counts how their requests ended.

    done: a last record that says so. error: a last record that is one. refused: a 503 with JSON before the first.
    cut: the connection ended.
    """

    def __init__(self, server: Server, clients: int = CLIENTS) -> None:
        self._url = server.url
        self.endings: Counter[str] = Counter()
        self._answered: dict[int, int] = dict.fromkeys(range(clients), 0)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients: list[Future[None]] = [self._pool.submit(self._run, number) for number in self._answered]

    def stop(self) -> None:
        """Raises what a client found wrong."""
        self._stop.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    def wait_until_all_are_answered(self, seconds: float = 120.0) -> float:
        """Until every client has had a whole answer that it asked for after now; the seconds that it took."""
        # The answer of the moment may have begun before, and the one after it has not.
        wanted = {number: answered + 2 for number, answered in self._answered.items()}
        return until(lambda: self._broken() or self._reached(wanted), seconds, "every client is answered")

    def _reached(self, wanted: dict[int, int]) -> bool:
        return all(self._answered[number] >= count for number, count in wanted.items())

    def _broken(self) -> bool:
        return any(client.done() for client in self._clients)

    def _run(self, number: int) -> None:
        media_type, fields = FORMATS[number % 2]
        # Not all at once: at any moment some of them are in the middle of a stream.
        self._stop.wait(number / 40)
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._stop.is_set():
                ending = self._ask(http, media_type, chat(SCRIPT, **fields))
                self.endings[ending] += 1
                self._answered[number] += ending == "done"
                # A client that is refused comes back, though sooner than it is told to.
                self._stop.wait(0.1 if ending == "refused" else 0)

    def _ask(self, http: httpx.Client, media_type: str, body: dict[str, Any]) -> str:
        try:
            answer = http.post("/api/chat", json=body)
        except httpx.TransportError:
            return "cut"
        if answer.status_code != 200:
            assert (answer.status_code, answer.json().keys()) == (503, {"error"})
            assert int(answer.headers["Retry-After"]) > 0
            return "refused"
        records = parse(answer.content, media_type)
        assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True]
        if "error" in records[-1]:
            return "error"
        assert text(records) == "word " * 10
        return "done"


class Holdings(NamedTuple):
    """What the processes of a server have together: descriptors, threads, and bytes of memory that are in it."""

    files: int
    threads: int
    memory: int


def holdings(pids: Iterable[int]) -> Holdings:
    each = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            each.append((process.num_fds(), process.num_threads(), process.memory_info().rss))
    return Holdings(*(sum(column) for column in zip(*each, strict=True)))


# A process that is new has not connected to all others yet: each web worker has up to two connections to the engine,
# which are a descriptor at both ends. What a fault leaks here would be hundreds.
FILES = 8
# Far above what a quiet server's memory varies by. A leak of 20 KB for each of 500 connections would be above this.
MEMORY = 8 * 2**20
ROUNDS = 4
# Those in which the engine host does what takes time on disk stay (asyncio.to_thread, ThreadPoolExecutor).
THREADS = min(32, (os.cpu_count() or 1) + 4)


class MemoryGrew(AssertionError):
    """After a fault the server holds more memory than before it."""


def leaks_nothing(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a test while the memory grows, and fail when it has grown in each of `ROUNDS` rounds.

    A leak takes memory in every round. An allocator keeps what was once used and gives it out again, so that it takes
    memory in the first rounds only: 5 to 10 MB, at a moment that differs from run to run.
    """

    @functools.wraps(test)
    def in_rounds(*args: Any, **fixtures: Any) -> None:
        for _ in range(ROUNDS - 1):
            try:
                return test(*args, **fixtures)
            except MemoryGrew as grew:
                print(f"another round: {grew}")
        return test(*args, **fixtures)

    return in_rounds


@contextmanager
def under_load(server: Server) -> Iterator[Load]:
    """What is done to the server inside, it must survive; afterwards it holds nothing that it did not before.

    Raises MemoryGrew where it holds more memory, for `leaks_nothing`.
    """
    before = holdings(pids(server))
    load = Load(server)
    try:
        load.wait_until_all_are_answered()
        yield load
        print(f"all clients were answered again after {load.wait_until_all_are_answered(120):.1f} s")
    finally:
        load.stop()
    print(dict(load.endings))
    server.wait_until_idle()
    assert_holds_no_more_than(server, before)


def pids(server: Server) -> list[int]:
    return [process.pid for process in server.processes()]


def assert_holds_no_more_than(server: Server, before: Holdings) -> None:
    until(lambda: holdings(pids(server)).files <= before.files + FILES, 120, f"no more than {before.files} files")
    after = holdings(pids(server))
    print(f"before: {before}, after: {after}")
    assert after.threads <= before.threads + THREADS
    if after.memory > before.memory + MEMORY:
        raise MemoryGrew(f"{before.memory} bytes before, {after.memory} after, and {MEMORY} more are allowed")
