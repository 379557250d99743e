"""The load generator: a process that requests many streams of one server at once, and reports how they arrived.

    ─▶ a Load, a line of JSON          connect, and prepare the requests
    ◀─ "ready"
    ─▶ "go"                            ask; until every answer has ended, or with `window` until every one has begun
    ◀─ "begun"                         only with `window`, unless it fails: that many seconds begin
    ◀─ "done"                          the CPU is read now
    ◀─ an Outcome, a line of JSON      after the received bytes were parsed

During the measurement it only receives bytes and notes their times.
"""

from __future__ import annotations

import resource
import select
import socket
import sys
import time
from itertools import pairwise

import msgspec

from . import answer
from .answer import Broken

RECEIVE_BYTES = 1 << 18
# A stream that is silent for this long is broken.
PATIENCE_SECONDS = 120.0


class Load(msgspec.Struct, omit_defaults=True):
    """The streams to request: one for each of the `bodies` (JSON), each with this many `tokens`.

    `window` is in seconds. Every `probes`-th stream carries the engine's clock instead of words; no stream when 0.
    """

    port: int
    path: str
    dialect: str
    accept: str
    bodies: list[str]
    tokens: int = 0
    window: float = 0.0
    probes: int = 0


class Outcome(msgspec.Struct, omit_defaults=True):
    """The times of a run, in seconds.

    - `first`: from a stream's request to its first text.
    - `gaps`: between two arrivals of one stream. Tokens that came together are one arrival.
    - `late`: from the moment when the engine made a token to its arrival.
    - `load_cpu`: the CPU time of this process.
    """

    tokens: int
    seconds: float
    first: list[float] = []
    gaps: list[float] = []
    late: list[float] = []
    prompt_tokens: int = 0
    load_cpu: float = 0.0
    reads: int = 0
    failure: str = ""


class Connection:
    """One stream: its request, and what was received of it."""

    def __init__(self, load: Load, body: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", load.port))
        content = body.encode()
        head = (
            f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nContent-Type: application/json\r\n"
            f"Accept: {load.accept}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        self._request = head.encode() + content
        self.asked = 0.0
        self.pieces: list[answer.Piece] = []

    def ask(self) -> None:
        self.asked = time.monotonic()
        self.socket.sendall(self._request)
        self.socket.setblocking(False)


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        outcome = run(msgspec.json.decode(line, type=Load))
        print(msgspec.json.encode(outcome).decode(), flush=True)


def run(load: Load) -> Outcome:
    connections = [Connection(load, body) for body in load.bodies]
    say("ready")
    sys.stdin.readline()
    began_cpu = time.process_time()
    began = time.monotonic()
    failure, opened, closed = "", began, began
    receiving = Receiving(connections)
    for connection in connections:
        connection.ask()
        receiving.some(0)
    try:
        if load.window:
            receiving.until_begun()
            say("begun")
            began_cpu, opened = time.process_time(), time.monotonic()
            receiving.until(opened + load.window)
        else:
            receiving.until_ended()
    except Broken as error:
        failure = str(error)
    closed = time.monotonic()
    took = time.process_time() - began_cpu
    say("done")
    for connection in connections:
        connection.socket.close()
    try:
        outcome = read_window(load, connections, opened, closed) if load.window else read_answers(load, connections)
    except Broken as error:
        outcome = Outcome(0, 0.0, failure=str(error))
    outcome.failure = failure or outcome.failure
    outcome.load_cpu = took
    outcome.reads = sum(len(each.pieces) for each in connections)
    return outcome


def say(word: str) -> None:
    print(word, flush=True)


class Receiving:
    """Receives from all streams and notes the times."""

    def __init__(self, connections: list[Connection]) -> None:
        self._poll = select.epoll()
        self._open = {each.socket.fileno(): each for each in connections}
        self._silent = set(self._open)
        for fd in self._open:
            self._poll.register(fd, select.EPOLLIN)

    def until_ended(self) -> None:
        while self._open:
            self.some(PATIENCE_SECONDS)

    def until_begun(self) -> None:
        """Wait until every stream has a word; heartbeats don't count. Raises Broken when that takes too long."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self._silent:
            self.some(PATIENCE_SECONDS)
            if time.monotonic() > end:
                raise Broken(f"{len(self._silent)} streams have not begun in {PATIENCE_SECONDS:g} s")

    def until(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            self.some(left, must=False)

    def some(self, seconds: float, must: bool = True) -> None:
        """Receive something. Raises Broken when nothing comes for `seconds` (not 0) though it `must`."""
        ready = self._poll.poll(seconds)
        if not ready and seconds and must:
            raise Broken(f"nothing for {seconds:g} s from {len(self._open)} streams")
        for fd, _ in ready:
            connection = self._open[fd]
            try:
                data = connection.socket.recv(RECEIVE_BYTES)
            except ConnectionError:
                data = b""
            if data:
                connection.pieces.append((time.monotonic(), data))
                if b"~" in data:
                    self._silent.discard(fd)
            else:
                self._poll.unregister(fd)
                self._silent.discard(fd)
                del self._open[fd]


def read_answers(load: Load, connections: list[Connection]) -> Outcome:
    """Return every answer, whole. Raises Broken when one lacks tokens."""
    outcome = Outcome(0, 0.0)
    last = 0.0
    for connection in connections:
        received = answer.read(connection.pieces, load.dialect)
        if received.tokens != load.tokens:
            raise Broken(f"{received.tokens} tokens, not {load.tokens}")
        add_times(outcome, connection.asked, [arrival.at for arrival in received.arrivals])
        outcome.tokens += received.tokens
        outcome.prompt_tokens = received.prompt_tokens
        last = max(last, received.arrivals[-1].at)
    outcome.seconds = last - connections[0].asked
    return outcome


def add_times(outcome: Outcome, asked: float, times: list[float]) -> None:
    outcome.first.append(times[0] - asked)
    outcome.gaps += [later - earlier for earlier, later in pairwise(times)]


def read_window(load: Load, connections: list[Connection], opened: float, closed: float) -> Outcome:
    """Return what came between the two times: words that end with "~", one for each token, and the engine's clock."""
    outcome = Outcome(0, closed - opened)
    for number, connection in enumerate(connections):
        # From the beginning, since the head and words that were cut come first.
        arrivals = [each for each in answer.arrivals(connection.pieces, load.dialect) if opened <= each.at < closed]
        outcome.tokens += sum(arrival.text.count("~") for arrival in arrivals)
        if load.probes and number % load.probes == 0:
            outcome.late += [
                arrival.at - int(clock) / 1e6 for arrival in arrivals for clock in arrival.text.split("~ ")[:-1]
            ]
    return outcome


if __name__ == "__main__":
    main()
