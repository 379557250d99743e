"""The engine's end of the queue against commands that can't be decoded and answers that can't be encoded: each fails
alone, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.listener import WebWorkerConnection
from service.protocol.commands import Check, Command, ListModels
from service.protocol.events import Checked, Delta, Event, Failed, Models, Shown
from service.protocol.model_info import ModelInfo, Tensor
from service.protocol.wire import Unpacker, decode_events, pack
from tests.hostile.messages import HOSTILE, UNFIT, VICTIM, frame, values
from tests.support.loop import in_loop

COMMANDS = [kind.__name__ for kind in get_args(Command)]


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
