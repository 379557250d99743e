"""Following a host that answers, is silent, dies and comes back. The host is a socket of the test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import drain as drain_module
from service.drain import Drain
from service.engine_client import exchange
from service.engine_client import observation as module
from service.engine_client.client import Client
from service.engine_client.disconnect import Presence
from service.errors import BadRequest, ClientGone
from service.protocol.commands import Cancel, Command, Observe
from service.protocol.events import Event, Failed, Hello, Observed
from service.protocol.live import HostState, LiveEvent, LiveSnapshot
from service.protocol.wire import Unpacker, decode_command, pack


class Host:
    """Answers the nth Observe with the nth of `answers`, or not where that is None. Ends after them, unless `stays`."""

    def __init__(self, path: Path, answers: list[list[LiveEvent] | Failed | None], stays: bool = False) -> None:
        self._answers = answers
        self._stays = stays
        self.commands: list[Command] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        self._listener.close()
        connection.sendall(pack([Hello()]))
        unpacker = Unpacker()
        while data := connection.recv(1 << 16):
            for command in map(decode_command, unpacker.feed(data)):
                self.commands.append(command)
                if isinstance(command, Observe) and self._answers:
                    answer = self._answers.pop(0)
                    if answer is not None:
                        connection.sendall(pack([self._event(command.id, answer)]))
                elif not self._stays:
                    connection.close()
                    return

    def _event(self, id: int, answer: list[LiveEvent] | Failed) -> Event:
        return Failed(id, answer.kind, answer.message) if isinstance(answer, Failed) else Observed(id, answer)

    def join(self) -> list[Command]:
        """What was asked, when the host has ended."""
        self._thread.join(120)
        return self.commands


def event(mark: str) -> LiveEvent:
    return LiveEvent(mark, LiveSnapshot(1.0))


def observing(
    path: Path, after: str = "", heartbeat: float = 10.0, presence: Presence | None = None
) -> Iterator[list[LiveEvent]]:
    return Client(str(path), heartbeat).observe(after, 300.0, presence or Presence()).batches()


def marks(batch: list[LiveEvent]) -> list[str]:
    return [each.mark for each in batch]


def host_states(batches: Iterator[list[LiveEvent]], number: int) -> list[tuple[HostState, str]]:
    snapshots = [each.snapshot for _ in range(number) for each in next(batches)]
    return [(each.host, each.reason) for each in snapshots if each]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)


def test_each_question_names_the_last_event_that_came(scratch: Path):
    host = Host(scratch / "s", [[event("a-1"), event("a-2")], [event("a-3")]])
    batches = observing(scratch / "s", after="a-0")
    assert [marks(next(batches)) for _ in range(2)] == [["a-1", "a-2"], ["a-3"]]
    next(batches)
    asked = [(each.after, each.seconds) for each in host.join() if isinstance(each, Observe)]
    assert asked == [("a-0", 300.0), ("a-2", 300.0), ("a-3", 300.0)]


def test_a_host_that_dies_is_shown_as_gone_and_taken_up_again_when_it_is_back(scratch: Path):
    Host(scratch / "s", [[event("a-1")]])
    batches = observing(scratch / "s")
    next(batches)
    assert host_states(batches, 1) == [(HostState.GONE, "it closed the connection")]
    assert host_states(batches, 1)[0][0] is HostState.GONE
    (scratch / "s").unlink()
    back = Host(scratch / "s", [[event("b-1")]])
    assert "b-1" in [mark for _ in range(50) for mark in marks(next(batches))]
    asked = back.commands[0]
    assert isinstance(asked, Observe)
    assert asked.after == "a-1"


def test_without_a_host_the_reason_says_that_it_can_not_be_reached(scratch: Path):
    assert host_states(observing(scratch / "s"), 1) == [
        (HostState.GONE, "the engine can't be reached: No such file or directory")
    ]


def test_a_silent_host_brings_heartbeats_and_is_then_shown_as_gone(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    Host(scratch / "s", [None], stays=True)
    batches = observing(scratch / "s", heartbeat=0.02)
    assert next(batches) == []
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    assert host_states(batches, 1) == [(HostState.GONE, "it has sent nothing for 0 s")]


def test_an_error_that_is_not_about_reaching_the_host_ends_it(scratch: Path):
    Host(scratch / "s", [Failed(0, "BadRequest", "this engine process does not answer Observe")])
    with pytest.raises(BadRequest, match="does not answer"):
        next(observing(scratch / "s"))


def test_it_ends_when_this_process_shuts_down(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    Host(scratch / "s", [[event("a-1")], [event("a-2")]], stays=True)
    ending = Drain()
    for each in (drain_module, module, exchange):
        monkeypatch.setattr(each, "drain", ending)
    batches = observing(scratch / "s")
    next(batches)
    ending.begin(120)
    assert list(batches) == []


def test_a_client_that_leaves_is_noticed_and_the_question_cancelled(scratch: Path):
    host = Host(scratch / "s", [None])
    ours, theirs = socket.socketpair()
    batches = observing(scratch / "s", presence=Presence(fileno=ours.fileno))
    threading.Timer(0.05, theirs.close).start()
    with pytest.raises(ClientGone):
        next(batches)
    assert isinstance(host.join()[-1], Cancel)
    ours.close()


def test_a_client_that_leaves_while_the_host_is_gone_is_noticed(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 60.0)
    ours, theirs = socket.socketpair()
    batches = observing(scratch / "s", presence=Presence(fileno=ours.fileno))
    next(batches)
    theirs.close()
    with pytest.raises(ClientGone):
        next(batches)
    ours.close()
