"""Events that a handler pushes out of the steps of an engine: they leave at once, or joined."""

from __future__ import annotations

import asyncio

from service.engine.listener import BEHIND_BYTES, JOIN_EVENTS, Emit, Push
from service.errors import TooManyRequests
from service.protocol.commands import Cancel, Check
from service.protocol.events import Delta, Event, Failed, Finished
from tests.support.loop import in_loop, settle
from tests.support.queue_ends import WebWorker, connected


class Steps:
    """A handler that emits when the test says so, as an engine does in its steps."""

    def __init__(self) -> None:
        self.emit: dict[int, Emit] = {}
        self.ends: dict[int, asyncio.Future[None]] = {}
        self.left: list[int] = []

    async def answer(self, command: Check, emit: Emit) -> None:
        end = self.ends[command.id] = asyncio.get_running_loop().create_future()
        self.emit[command.id] = emit
        try:
            await end
        except asyncio.CancelledError:
            self.left.append(command.id)
            raise

    async def begun(self, count: int) -> None:
        while len(self.ends) < count:
            await asyncio.sleep(0)

    def step(self, number: int, size: int = 1) -> None:
        """A token of `size` characters for each command that has not ended."""
        for command, end in self.ends.items():
            if not end.done():
                self.emit[command](Delta(command, number, chr(ord("a") + number % 26) * size, [number]))

    def finish(self, tokens: int) -> None:
        for command, end in self.ends.items():
            if not end.done():
                self.emit[command](Finished(command, "stop", 1, tokens, 0, 0, 0, 0))
                end.set_result(None)


async def read_to_the_end(worker: WebWorker, id: int) -> tuple[list[Event], int]:
    """The events of one command until it has finished, and how many messages they were."""
    events: list[Event] = []
    messages = 0
    while not (events and isinstance(events[-1], Finished)):
        events += [event for event in await worker.message() if event.id == id]
        messages += 1
    return events, messages


def tokens_of(events: list[Event]) -> list[int]:
    return [token_id for event in events if isinstance(event, Delta) for token_id in event.token_ids]


@in_loop
async def test_what_one_step_pushes_leaves_as_one_message_at_once():
    steps = Steps()
    async with connected({Check: Push(steps.answer)}) as worker:
        worker.send(Check(1), Check(2), Check(3))
        await steps.begun(3)
        for number in range(3):
            steps.step(number)
            assert [(event.id, event.token_ids) for event in await worker.message()] == [
                (1, [number]), (2, [number]), (3, [number]),
            ]  # fmt: skip


@in_loop
async def test_steps_that_the_loop_has_no_time_for_leave_joined():
    steps = Steps()
    async with connected({Check: Push(steps.answer)}) as worker:
        worker.send(Check(1), Check(2))
        await steps.begun(2)
        for number in range(3):
            steps.step(number)
        assert await worker.message() == [Delta(1, 0, "abc", [0, 1, 2]), Delta(2, 0, "abc", [0, 1, 2])]


@in_loop
async def test_a_pushing_handler_that_fails_ends_its_own_command_after_what_it_has_emitted():
    steps = Steps()
    async with connected({Check: Push(steps.answer)}) as worker:
        worker.send(Check(1), Check(2))
        await steps.begun(2)
        steps.step(0)
        steps.ends[1].set_exception(TooManyRequests("enough"))
        events = await worker.receive(3)
        assert [event for event in events if event.id == 1] == [
            Delta(1, 0, "a", [0]), Failed(1, "TooManyRequests", "enough", 1),
        ]  # fmt: skip
        steps.step(1)
        assert await worker.receive(1) == [Delta(2, 1, "b", [1])]


@in_loop
async def test_a_client_that_leaves_in_the_middle_of_a_step_is_the_only_one_to_leave():
    steps = Steps()
    async with connected({Check: Push(steps.answer)}) as worker:
        worker.send(Check(1), Check(2))
        await steps.begun(2)
        worker.send(Cancel(1))
        steps.step(0)
        while not steps.left:
            await asyncio.sleep(0)
        steps.step(1)
        steps.finish(2)
        events, _ = await read_to_the_end(worker, 2)
        assert (tokens_of(events), steps.left) == ([0, 1], [1])


@in_loop
async def test_a_web_worker_that_is_behind_gets_joined_tokens_and_holds_up_no_other():
    steps, size = Steps(), 10_000
    many = 100 * BEHIND_BYTES // size
    handlers = {Check: Push(steps.answer)}
    async with connected(handlers) as quick, connected(handlers, buffer=4096) as slow:
        quick.send(Check(1))
        slow.send(Check(2))
        await steps.begun(2)
        for number in range(many):
            steps.step(number, size)
            assert tokens_of(await quick.message()) == [number]
        steps.finish(many)
        events, messages = await read_to_the_end(slow, 2)
    assert tokens_of(events) == list(range(many))
    assert "".join(event.text for event in events[:-1]) == "".join(chr(97 + n % 26) * size for n in range(many))
    assert messages < many


@in_loop
async def test_what_piles_up_for_a_web_worker_is_joined_before_it_leaves():
    steps, many = Steps(), 3 * JOIN_EVENTS
    async with connected({Check: Push(steps.answer)}) as worker:
        worker.send(Check(1))
        await steps.begun(1)
        for number in range(many):
            steps.step(number)
        steps.finish(many)
        (delta, finished) = await worker.message()
    assert (tokens_of([delta]), type(finished)) == (list(range(many)), Finished)


@in_loop
async def test_a_web_worker_that_ends_while_it_is_behind_ends_its_commands():
    steps = Steps()
    async with connected({Check: Push(steps.answer)}, buffer=4096) as worker:
        worker.send(Check(1))
        await steps.begun(1)
        for number in range(100):
            steps.step(number, BEHIND_BYTES)
            await settle()
    await settle()
    assert steps.left == [1]
