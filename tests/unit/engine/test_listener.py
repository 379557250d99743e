"""The engine's end of the queue over a socket pair: commands in, events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from service.errors import Unavailable
from service.protocol.commands import Cancel, Check, ListLoaded, ListModels, Unload
from service.protocol.events import Checked, Done, Event, Failed
from tests.support.loop import in_loop
from tests.support.queue_ends import answer, connected


def failing(error: Exception) -> Callable[[Check], AsyncGenerator[Event, None]]:
    async def fail(command: Check) -> AsyncGenerator[Event, None]:
        yield Checked(command.id, "first")
        raise error

    return fail


@in_loop
async def test_each_command_is_answered_by_its_own_handler():
    async def unload(command: Unload) -> AsyncGenerator[Event, None]:
        yield Done(command.id)

    async with connected({Check: answer, Unload: unload}) as worker:
        worker.send(Check(1), Unload(2, "m"))
        assert await worker.receive(2) == [Checked(1, ""), Done(2)]


@in_loop
async def test_what_no_handler_answers_is_a_bad_request():
    async with connected({Check: answer}) as worker:
        worker.send(ListModels(1), Check(2))
        assert await worker.receive(2) == [
            Failed(1, "BadRequest", "this engine process does not answer ListModels"), Checked(2, ""),
        ]  # fmt: skip


@in_loop
async def test_events_of_one_turn_of_the_loop_leave_as_one_message():
    async def three(command: Check) -> AsyncGenerator[Event, None]:
        for number in range(3):
            yield Checked(command.id, str(number))

    async with connected({Check: three}) as worker:
        worker.send(Check(1), Check(2))
        assert len(await worker.message()) == 6


@in_loop
async def test_an_error_is_the_last_event_of_its_command():
    async with connected({Check: failing(Unavailable("busy", 5))}) as worker:
        worker.send(Check(1))
        assert await worker.receive(2) == [Checked(1, "first"), Failed(1, "Unavailable", "busy", 5)]


@in_loop
async def test_a_mistake_is_logged_and_tells_the_client_nothing(caplog: pytest.LogCaptureFixture):
    async with connected({Check: failing(RuntimeError("/secret/path"))}) as worker:
        worker.send(Check(1))
        *_, failed = await worker.receive(2)
    assert failed == Failed(1, "InternalError", "internal error; the server's log has the details")
    assert "/secret/path" in caplog.text


@in_loop
async def test_a_cancelled_command_ends_without_an_event_and_the_others_go_on():
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(command: ListLoaded) -> AsyncGenerator[Event, None]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield Done(command.id)
        finally:
            ended.set()

    async with connected({ListLoaded: endless, Check: answer}) as worker:
        worker.send(ListLoaded(1))
        await begun.wait()
        worker.send(Cancel(1), Cancel(7))
        await ended.wait()
        worker.send(Check(2))
        assert await worker.receive(1) == [Checked(2, "")]


@in_loop
async def test_commands_end_with_their_web_worker(caplog: pytest.LogCaptureFixture):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(command: ListLoaded) -> AsyncGenerator[Event, None]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield Done(command.id)
        finally:
            ended.set()

    async with connected({ListLoaded: endless}) as worker:
        worker.send(ListLoaded(1))
        await begun.wait()
    await ended.wait()
    assert "command ListLoaded 1 is cancelled: its web worker is gone" in caplog.text
