"""The web worker's end of the queue against events that can't be decoded and commands that can't be encoded: each fails
alone, and others go on."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine_client.connections import Connection
from service.engine_client.inbox import Inbox
from service.errors import BadRequest, EngineGone
from service.protocol.commands import Check, Submit
from service.protocol.events import Checked, Event, Failed, Hello
from service.protocol.request import Chat, Message, Request
from service.protocol.wire import Unpacker, pack
from service.transport.address import parse_address
from tests.hostile.messages import HOSTILE, UNFIT, VICTIM, frame, values

EVENTS = [kind.__name__ for kind in get_args(Event)]


@contextmanager
def connected() -> Iterator[tuple[Connection, socket.socket]]:
    """A web worker's connection, and the engine's end of it."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(directory) / "engine.sock")
        listener.bind(path)
        listener.listen()
        ends: list[socket.socket] = []

        def greet() -> None:
            end, _ = listener.accept()
            end.sendall(pack([Hello()]))
            ends.append(end)

        greeting = threading.Thread(target=greet, daemon=True)
        greeting.start()
        connection = Connection(parse_address(path), 30)
        greeting.join(120)
        with ends[0]:
            yield connection, ends[0]


def received(event: bytes) -> list[Event]:
    """What the hostile request gets when its event comes beside the victim's, which gets its answer in any case."""
    with connected() as (connection, far_end):
        inbox = Inbox(HOSTILE)
        for command in (Check(HOSTILE), Check(VICTIM)):
            connection.send(command, inbox)
        victims = Checked(VICTIM, "beside"), Checked(VICTIM, "after")
        far_end.sendall(frame(b"\x92" + event + msgspec.msgpack.encode(victims[0])) + pack([victims[1]]))
        events: list[Event] = []
        while victims[1] not in events:
            batch = inbox.get(30)
            assert batch, "the victim got no answer"
            events += batch
        assert victims[0] in events
        assert not connection.closed
        return [event for event in events if event.id != VICTIM]


@given(st.sampled_from([*EVENTS, "Nothing", ""]), st.lists(values, max_size=6))
def test_an_event_of_any_kind_and_any_fields_fails_alone(tag: str, fields: list[Any]) -> None:
    events = received(msgspec.msgpack.encode([tag, HOSTILE, *fields]))
    assert all(event.id == HOSTILE for event in events)


@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
def test_an_event_that_is_too_deep_fails_alone(depth: int) -> None:
    head = msgspec.msgpack.encode(["Delta", HOSTILE, 0, "", [], ""])
    (event,) = received(bytes([head[0] + 1]) + head[1:] + b"\x91" * depth + b"\x90")
    assert isinstance(event, Failed)


def test_an_event_of_the_wrong_types_is_an_error_of_its_own_request() -> None:
    (failed,) = received(msgspec.msgpack.encode(["Models", HOSTILE, [{"name": 5}]]))
    assert isinstance(failed, Failed)
    assert failed.kind == "EngineFailure"
    assert "Expected `str`, got `int`" in failed.message


def test_the_command_of_an_answer_that_can_not_be_read_is_cancelled() -> None:
    with connected() as (connection, far_end):
        connection.send(Check(HOSTILE), Inbox(HOSTILE))
        far_end.sendall(frame(msgspec.msgpack.encode([["Delta", HOSTILE, "x"]])))
        unpacker = Unpacker()
        far_end.settimeout(120)
        commands: list[bytes] = []
        while len(commands) < 2:
            data = far_end.recv(1 << 16)
            assert data, "the connection has closed"
            commands += unpacker.feed(data)
        assert [msgspec.msgpack.decode(command) for command in commands] == [["Check", HOSTILE], ["Cancel", HOSTILE]]


@pytest.mark.parametrize("value", UNFIT)
def test_a_command_that_can_not_be_encoded_is_a_bad_request_and_sends_nothing(value: Any) -> None:
    request = Request("m", Chat([Message("user", "a", tool_calls=[{"function": {"arguments": value}}])]))
    with connected() as (connection, far_end):
        with pytest.raises(BadRequest, match="can't be encoded"):
            connection.send(Submit(HOSTILE, request), Inbox(HOSTILE))
        connection.send(Check(VICTIM), Inbox(VICTIM))
        far_end.settimeout(120)
        (command,) = Unpacker().feed(far_end.recv(1 << 16))
        assert msgspec.msgpack.decode(command) == ["Check", VICTIM]


def test_bytes_that_are_not_messages_end_the_connection_with_an_error_for_each_request() -> None:
    with connected() as (connection, far_end):
        inbox = Inbox(HOSTILE)
        connection.send(Check(HOSTILE), inbox)
        far_end.sendall(frame(b"\xc1"))
        (failed,) = inbox.get(30)
        assert isinstance(failed, Failed)
        assert failed.kind == EngineGone.__name__
