from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.engine_client.connections import Connections
from service.errors import EngineGone
from service.protocol.events import PROTOCOL, Done, Event, Hello
from service.protocol.wire import pack


@contextmanager
def greeting(path: Path, data: bytes) -> Iterator[Connections]:
    """Connections to a process that sends this to whoever connects, and then nothing."""
    peers: list[socket.socket] = []

    def serve() -> None:
        peer, _ = listener.accept()
        peers.append(peer)
        peer.sendall(data)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "e.sock"))
        listener.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        yield Connections(str(path / "e.sock"))
        serving.join()
        for peer in peers:
            peer.close()


def refusal(path: Path, data: bytes) -> str:
    with greeting(path, data) as connections, pytest.raises(EngineGone) as caught:
        connections.control()
    return caught.value.message


@pytest.mark.parametrize(
    ("theirs", "older"), [(PROTOCOL - 1, "engine host"), (PROTOCOL + 1, "web tier")], ids=["older", "newer"]
)
def test_another_version_is_named_and_which_side_to_restart(scratch: Path, theirs: int, older: str):
    assert refusal(scratch, pack([Hello(protocol=theirs)])) == (
        f"the engine uses protocol {theirs} of the queue and the web tier protocol {PROTOCOL}: "
        f"install the same version of both, and restart the {older}, which is older"
    )


def test_a_newer_greeting_may_say_more(scratch: Path):
    """Fields are added at the end; ["Hello", 0, 3, false, "more"] is one such greeting."""
    payload = b"\x91\x95\xa5Hello\x00" + bytes([PROTOCOL + 1]) + b"\xc2\xa4more"
    assert f"protocol {PROTOCOL + 1} of the queue" in refusal(scratch, len(payload).to_bytes(4, "big") + payload)


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, pack([Done(1)]), pack([]), b"\x00\x00\x00\x01\xff"],
    ids=["http", "another event", "nothing", "not msgpack"],
)
def test_what_is_not_an_engine_is_not_taken_for_one(scratch: Path, data: bytes):
    assert refusal(scratch, data) == "the engine can't be reached: it is not an engine of this project"


def test_an_engine_that_sends_more_than_its_greeting_is_refused(scratch: Path):
    events: list[Event] = [Done(1)]
    assert refusal(scratch, pack([Hello()]) + pack(events)) == (
        "the engine can't be reached: it sent more than its greeting"
    )


def test_one_connection_serves_all_until_it_is_closed(scratch: Path):
    with greeting(scratch, pack([Hello()])) as connections:
        first = connections.control()
        assert connections.control() is first
        assert connections.timer() is connections.timer()
        assert connections.watch() is connections.watch()
