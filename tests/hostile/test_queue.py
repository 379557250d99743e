"""Both ends of the queue against messages that can't be encoded or decoded: each fails alone, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.listener import WebWorkerConnection
from service.engine_client.connections import Connection
from service.engine_client.inbox import Inbox
from service.errors import BadRequest, EngineGone
from service.protocol.commands import Check, Command, ListModels, Submit
from service.protocol.events import Checked, Delta, Event, Failed, Hello, Models, Shown
from service.protocol.model_info import ModelInfo, Tensor
from service.protocol.request import Chat, Message, Request
from service.protocol.salvage import message_id, single_events
from service.protocol.wire import Unpacker, decode_events, pack
from service.transport.address import parse_address
from tests.support.loop import in_loop

HOSTILE, VICTIM = 1, 2
COMMANDS = [kind.__name__ for kind in get_args(Command)]
EVENTS = [kind.__name__ for kind in get_args(Event)]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]).filter(lambda each: not 0xD800 <= ord(each) < 0xE000), max_size=5)
    | st.binary(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text("ab", max_size=2), children, max_size=3),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# What a field can hold in a process, and no message can.
UNFIT: list[Any] = [2**64, -(2**63) - 1, 10**40, "\ud800", {"a": ["\udfff"]}, nested(5_000), object()]


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


# --- the engine's end ------------------------------------------------------------------------------------


class WebWorker:
    """A web worker that sends bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._unpacker = Unpacker()
        self.events: list[Event] = []

    async def until_answered(self, id: int) -> None:
        """Until the victim's answer has come; fails when the connection ends before."""
        while not any(event.id == id and isinstance(event, Checked) for event in self.events):
            data = await self._reader.read(1 << 16)
            assert data, "the connection has closed"
            for payload in self._unpacker.feed(data):
                self.events += decode_events(payload)

    def of(self, id: int) -> list[Event]:
        return [event for event in self.events if event.id == id]


async def check(command: Check) -> AsyncGenerator[Event, None]:
    yield Checked(command.id, "")


def answering(*events: Event) -> Any:
    async def handler(command: Any) -> AsyncGenerator[Event, None]:
        for event in events:
            yield event

    return handler


@asynccontextmanager
async def engine(handlers: dict[type[Command], Any]) -> AsyncIterator[WebWorker]:
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(WebWorkerConnection(handlers, *await asyncio.open_connection(sock=ours)).serve())
    worker = WebWorker(*await asyncio.open_connection(sock=theirs))
    yield worker
    worker.writer.close()
    await serving


async def survives(payload: bytes) -> list[Event]:
    """Send a message among the victim's; what came for it."""
    async with engine({Check: check, ListModels: answering(Models(HOSTILE, []))}) as worker:
        worker.writer.write(frame(payload) + pack(Check(VICTIM)))
        await worker.until_answered(VICTIM)
        return worker.of(HOSTILE)


@given(st.sampled_from([*COMMANDS, "Nothing", ""]), st.lists(values, max_size=6))
def test_a_command_of_any_kind_and_any_fields_fails_alone(tag: str, fields: list[Any]) -> None:
    payload = msgspec.msgpack.encode([tag, HOSTILE, *fields])
    answers = asyncio.run(survives(payload))
    assert all(isinstance(answer, Failed | Models | Checked) for answer in answers)


@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
def test_a_command_that_is_too_deep_fails_alone(depth: int) -> None:
    head = msgspec.msgpack.encode(["Check", HOSTILE])
    payload = bytes([head[0] + 1]) + head[1:] + b"\x91" * depth + b"\x90"
    for answer in asyncio.run(survives(payload)):
        assert isinstance(answer, Failed | Checked)


@in_loop
async def test_text_that_is_not_utf_8_fails_alone() -> None:
    payload = msgspec.msgpack.encode(["Unload", HOSTILE, "aa"]).replace(b"aa", b"\xff\xfe")
    (failed,) = await survives(payload)
    assert isinstance(failed, Failed)
    assert (failed.kind, "can't read the request" in failed.message) == ("BadRequest", True)


@given(st.binary(max_size=40))
def test_what_is_not_a_message_ends_the_connection_or_fails_alone(payload: bytes) -> None:
    """A web worker that sends bytes which are not msgpack can't be understood any more; the listener lives on."""

    async def main() -> None:
        async with engine({Check: check}) as worker:
            worker.writer.write(frame(payload) + pack(Check(VICTIM)))
            with contextlib.suppress(AssertionError, ConnectionError):
                await worker.until_answered(VICTIM)

    asyncio.run(main())


@given(st.sampled_from(range(len(UNFIT))), st.booleans())
def test_an_answer_that_can_not_be_encoded_fails_alone(number: int, streams: bool) -> None:
    value = UNFIT[number]
    bad: list[Event] = [
        Delta(HOSTILE, 1, "a", [1], tool_calls=[{"function": {"arguments": value}}]),
        Models(HOSTILE, [ModelInfo(name=value)]),
        Shown(HOSTILE, ModelInfo(name="m"), [Tensor("w", "F32", [value])], []),
    ]

    async def main() -> None:
        for event in bad:
            before = [Delta(HOSTILE, 0, "first", [0])] if streams else []
            answer = answering(*before, event, Delta(HOSTILE, 2, "never", [2]))
            async with engine({Check: check, ListModels: answer}) as worker:
                worker.writer.write(pack(ListModels(HOSTILE)) + pack(Check(VICTIM)))
                await worker.until_answered(VICTIM)
                worker.events.clear()
                worker.writer.write(pack(Check(VICTIM)))
                await worker.until_answered(VICTIM)

    asyncio.run(main())


@in_loop
async def test_a_stream_that_can_not_go_on_ends_with_what_is_wrong() -> None:
    events = [Delta(HOSTILE, 0, "first", [0]), Delta(HOSTILE, 1, "\ud800", [1]), Delta(HOSTILE, 2, "never", [2])]
    async with engine({Check: check, ListModels: answering(*events)}) as worker:
        worker.writer.write(pack(ListModels(HOSTILE)) + pack(Check(VICTIM)))
        await worker.until_answered(VICTIM)
        first, failed = worker.of(HOSTILE)
    assert first == events[0]
    assert isinstance(failed, Failed)
    assert (failed.kind, "can't be sent" in failed.message) == ("EngineFailure", True)


# --- the web worker's end --------------------------------------------------------------------------------


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


# --- between them ----------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.integers(-(2**63), 2**64 - 1), st.lists(values, max_size=5))
def test_the_id_of_any_message_is_found(tag: str, number: int, fields: list[Any]) -> None:
    try:
        payload = msgspec.msgpack.encode([tag, number, *fields])
    except UnicodeEncodeError:
        return
    assert message_id(payload) == number


@given(st.lists(values, max_size=20))
def test_a_list_is_cut_into_its_values(items: list[Any]) -> None:
    pieces = single_events(msgspec.msgpack.encode(items))
    assert pieces == [msgspec.msgpack.encode(item) for item in items]


@given(st.binary(max_size=60))
def test_what_is_not_msgpack_is_a_value_error(payload: bytes) -> None:
    for read in (message_id, single_events):
        with contextlib.suppress(ValueError):
            read(payload)


def test_not_a_number_crosses_the_queue() -> None:
    (event,) = decode_events(pack([Delta(1, 0, "", [], tool_calls=[{"a": math.inf}])])[4:])
    assert isinstance(event, Delta)
