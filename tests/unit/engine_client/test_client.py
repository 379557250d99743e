from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.engine_client import client, stream
from service.engine_client.client import Client
from service.engine_client.disconnect import Presence
from service.errors import ClientGone, Drained, EngineFailure, EngineGone, ServiceError
from service.protocol.commands import Cancel, Locate, Submit
from service.protocol.events import Delta, Event, Failed, Finished, Hello, Located
from service.protocol.request import Request, Text
from service.protocol.wire import Unpacker, decode_command, pack

FINISHED = Finished(1, "stop", 1, 1, 0, 0, 0, 0)


class Engine:
    """Host and worker on one socket. The nth Submit is answered with the nth of `answers`; then the process ends.

    Its locations hold for `holds` seconds.
    """

    def __init__(self, path: str, answers: list[list[Event]], holds: float = 0.0) -> None:
        self._path, self._answers = path, answers
        self.holds = holds
        self.commands: list[object] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        connection.sendall(pack([Hello()]))
        unpacker = Unpacker()
        while data := connection.recv(1 << 16):
            for payload in unpacker.feed(data):
                command = decode_command(payload)
                self.commands.append(command)
                connection.sendall(pack(self._events(command)))
            if self.commands and not self._answers:
                # A command that finds its connection closed has not been sent.
                time.sleep(0.1)
                break
        connection.close()

    def _events(self, command: object) -> list[Event]:
        if isinstance(command, Locate):
            return [Located(command.id, self._path, 0, holds=self.holds)]
        if isinstance(command, Cancel):
            return []
        assert isinstance(command, Submit)
        events = self._answers.pop(0)
        for event in events:
            event.id = command.id
        return events


def told(path: Path, requests: list[Request], answers: list[list[Event]]) -> list[Event | ServiceError]:
    """The events that the client gets, but for the Located, and what it raises."""
    engine = Engine(str(path / "engine.sock"), answers)
    stream = Client(str(path / "engine.sock"), 10).submit(requests, Presence())
    try:
        return list(_events(stream.batches()))[1:]
    finally:
        engine.close()


def _events(batches: Iterator[list[Event]]) -> Iterator[Event | ServiceError]:
    try:
        for batch in batches:
            yield from batch
    except ServiceError as error:
        yield error


def delta(text: str, index: int = 0) -> Delta:
    return Delta(0, 0, text, [1], index=index)


def finished(index: int = 0) -> Finished:
    return Finished(0, "stop", 1, 1, 0, 0, 0, 0, index=index)


REQUEST, TWO = Request("demo", Text("x")), Request("demo", Text("x"), n=2)


def test_an_engine_that_ends_after_its_answer_has_not_failed_it(scratch: Path):
    *_, last = told(scratch, [REQUEST], [[delta("a"), finished()]])
    assert isinstance(last, Finished)


def test_an_engine_that_ends_before_has(scratch: Path):
    *_, last = told(scratch, [REQUEST], [[delta("a")]])
    assert isinstance(last, EngineGone)


def test_a_stream_of_two_answers_ends_after_the_second(scratch: Path):
    events = told(scratch, [TWO], [[delta("a", 1), finished(1), delta("b", 0), finished(0)]])
    assert [event.index for event in events if isinstance(event, Finished)] == [1, 0]


def test_the_answers_to_several_requests_are_counted_through(scratch: Path):
    answer = [delta("a", 0), delta("b", 1), finished(0), finished(1)]
    events = told(scratch, [TWO, REQUEST], [answer, [delta("c"), finished()]])
    assert {event.index: event.text for event in events if isinstance(event, Delta)} == {0: "a", 1: "b", 2: "c"}
    assert sorted(event.index for event in events if isinstance(event, Finished)) == [0, 1, 2]


def test_one_request_that_fails_fails_them_all(scratch: Path):
    *_, last = told(scratch, [REQUEST, REQUEST], [[delta("a")], [Failed(0, "EngineFailure", "oh")]])
    assert isinstance(last, EngineFailure)


def silent(path: Path) -> socket.socket:
    """An engine that hangs: who connects waits for its greeting."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_who_waits_for_an_engine_that_hangs_does_not_wait_in_line(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "CHECK_SECONDS", 0.3)
    with silent(scratch / "e.sock") as listener, ThreadPoolExecutor(12) as pool:
        asked = Client(str(scratch / "e.sock"), 10.0)
        asks = [pool.submit(asked.trouble) for _ in range(12)]
        assert {type(each.exception()) for each in asks} == {EngineGone}
        listener.setblocking(False)
        tries = 0
        with contextlib.suppress(BlockingIOError):
            while listener.accept():
                tries += 1
    assert tries < 6


def test_an_engine_that_hangs_holds_up_nobody_who_asks_another(scratch: Path):
    answers = Engine(str(scratch / "b.sock"), [])
    with silent(scratch / "a.sock") as listener, ThreadPoolExecutor(1) as pool:
        asked = Client(str(scratch / "b.sock"), 10.0)
        waits = pool.submit(asked.connections.connection, str(scratch / "a.sock"))
        peer, _ = listener.accept()
        assert not asked.connections.control().closed
        assert waits.running()
        peer.close()
        assert type(waits.exception()) is EngineGone
    answers.close()


DRAINED = Failed(0, "Drained", "the engine goes down")


def asked_in_turn(path: Path, answers: list[list[Event]], count: int) -> tuple[list[str], list[Event | ServiceError]]:
    """The kinds of the commands that so many requests send one after the other, and the last event of each.

    A location of the engine's holds for an hour. No stream may lose its engine.
    """
    engine = Engine(str(path / "engine.sock"), answers, holds=3600.0)
    client = Client(str(path / "engine.sock"), 10, moves=0)
    lasts = [list(_events(client.submit([REQUEST], Presence()).batches()))[-1] for _ in range(count)]
    engine.close()
    return [type(command).__name__ for command in engine.commands], lasts


def test_a_location_that_holds_is_asked_for_once(scratch: Path):
    commands, lasts = asked_in_turn(scratch, [[delta("a"), finished()]] * 3, 3)
    assert commands == ["Locate", "Submit", "Submit", "Submit"]
    assert [type(last) for last in lasts] == [Finished] * 3


def test_a_model_that_has_left_meanwhile_is_looked_for_again(scratch: Path):
    """It was unloaded or restarted since, which is not a loss that the request may be charged with."""
    answers = [[delta("a"), finished()], [DRAINED], [delta("b"), finished()]]
    commands, lasts = asked_in_turn(scratch, answers, 2)
    assert commands == ["Locate", "Submit", "Submit", "Locate", "Submit"]
    assert [type(last) for last in lasts] == [Finished] * 2


def test_an_engine_that_ends_under_a_request_is_a_loss_wherever_the_location_came_from(scratch: Path):
    for place, answers in enumerate(([[DRAINED]], [[delta("a"), finished()], [delta("a"), DRAINED]])):
        directory = scratch / str(place)
        directory.mkdir()
        _, lasts = asked_in_turn(directory, answers, len(answers))
        assert isinstance(lasts[-1], Drained)


def test_a_request_with_a_keep_alive_of_its_own_asks_the_host(scratch: Path):
    engine = Engine(str(scratch / "engine.sock"), [[delta("a"), finished()]] * 2, holds=3600.0)
    client = Client(str(scratch / "engine.sock"), 10)
    for _ in range(2):
        list(client.submit([REQUEST], Presence(), keep_alive=5.0).batches())
    engine.close()
    assert [type(command) for command in engine.commands] == [Locate, Submit, Locate, Submit]


def test_a_client_whose_socket_is_closed_already_has_left(scratch: Path):
    # No process has so many files open.
    number = 1 << 20
    engine = Engine(str(scratch / "engine.sock"), [[delta("a"), finished()]])
    stream = Client(str(scratch / "engine.sock"), 10).submit([REQUEST], Presence(fileno=lambda: number))
    events = list(_events(stream.batches()))
    engine.close()
    assert isinstance(events[-1], ClientGone)


class BusyHost(Engine):
    """Answers a Locate once so many requests wait for the answer to it."""

    client: Client
    waiting = 0

    def _events(self, command: object) -> list[Event]:
        while isinstance(command, Locate) and self._waiting() < self.waiting:
            time.sleep(0.01)
        return super()._events(command)

    def _waiting(self) -> int:
        return len(self.client.connections.locations()._waiting.get("demo", []))


def test_the_requests_of_a_burst_ask_once_where_the_model_is(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 60.0)
    host = BusyHost(str(scratch / "engine.sock"), [[delta("a"), finished()]] * 6, holds=1e-9)
    host.client = Client(str(scratch / "engine.sock"), 10)
    lasts = [_last(host.client)]
    host.holds, host.waiting = 3600.0, 4
    with ThreadPoolExecutor(5) as pool:
        burst = [pool.submit(_last, host.client) for _ in range(5)]
        lasts += [each.result() for each in burst]
    host.close()
    assert [type(last) for last in lasts] == [Finished] * 6
    assert [type(command) for command in host.commands] == [Locate, Submit, Locate] + [Submit] * 5


def test_a_request_whose_question_is_answered_for_nobody_asks_itself(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "ANSWER_SECONDS", 0.0)
    host = Engine(str(scratch / "engine.sock"), [[delta("a"), finished()]] * 2, holds=1e-9)
    client = Client(str(scratch / "engine.sock"), 10)
    lasts = [_last(client)]
    client.connections.locations().begin_question("demo")
    lasts.append(_last(client))
    host.close()
    assert [type(last) for last in lasts] == [Finished] * 2
    assert [type(command) for command in host.commands] == [Locate, Submit, Locate, Submit]


def _last(client: Client) -> Event | ServiceError:
    return list(_events(client.submit([REQUEST], Presence()).batches()))[-1]
