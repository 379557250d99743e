"""A worker on a scripted engine, in this process: web workers call its handlers, the host reads its lifeline."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.engine.listener import Push
from service.engine.scripted import ScriptedEngine
from service.engine.worker import process
from service.engine.worker.process import ENGINE_DIED, Worker, build
from service.errors import BadRequest, Drained, EngineGone, TooManyRequests
from service.protocol.commands import Command, Embed, Measure, Submit
from service.protocol.events import Delta, Event, Finished, Measured, Vectors
from service.protocol.reports import Activity, EngineDied, LoadFailed, Pulse, Ready, Report, WorkerOptions
from service.protocol.request import Caller, Defaults, EmbedRequest, Request, Sampling, Text
from service.protocol.wire import Unpacker, decode_report
from tests.support.loop import in_loop, settle
from tests.support.pushed import pushed


class Lifeline:
    """The host's end: what the worker reports."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._unpacker = Unpacker()
        self._reports: list[Report] = []

    async def report(self, kind: type[Report] | None = None) -> Report:
        """The next report, of that kind; fails when the lifeline closes before."""
        while True:
            while not self._reports:
                data = await self._reader.read(1 << 16)
                assert data, "the lifeline has closed"
                self._reports += [decode_report(payload) for payload in self._unpacker.feed(data)]
            report = self._reports.pop(0)
            if kind is None or isinstance(report, kind):
                return report


async def alive(
    engine: ScriptedEngine | None = None, max_queue: int = 0
) -> tuple[Worker, Lifeline, asyncio.StreamReader]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    lifeline = Lifeline(*await asyncio.open_connection(sock=ours))
    return Worker(engine or ScriptedEngine(4), writer, max_queue), lifeline, reader


def asked(worker: Worker, command: Command) -> AsyncGenerator[Event, None]:
    handler = worker.handlers[type(command)]
    return pushed(partial(handler.answer, command)) if isinstance(handler, Push) else handler(command)


async def collected(events: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


def submit(script: str, **fields: Any) -> Submit:
    return Submit(1, Request("m", Text(script), **fields))


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@in_loop
async def test_a_request_is_answered_and_its_begin_and_end_are_reported():
    worker, lifeline, _ = await alive()
    events = await collected(asked(worker, submit("a b")))
    assert (said(events), type(events[-1])) == ("a b ", Finished)
    assert [await lifeline.report(), await lifeline.report()] == [Activity(1, 1), Activity(1, 0)]


@in_loop
async def test_the_pulse_counts_the_tokens_of_all_answers():
    worker, lifeline, _ = await alive()
    for script in ("a b", "c !repeat:3:d"):
        await collected(asked(worker, submit(script)))
    pulses = asyncio.create_task(worker._send_pulses())
    assert await lifeline.report(Pulse) == Pulse(0, 0, 6)
    pulses.cancel()


@in_loop
async def test_the_first_begin_the_last_end_and_every_second_end_are_reported():
    worker, lifeline, _ = await alive()
    await asyncio.gather(*(collected(asked(worker, submit("a !sleep:0 b"))) for _ in range(5)))
    reports = [await lifeline.report() for _ in range(4)]
    assert reports == [Activity(1, 1), Activity(5, 3), Activity(5, 1), Activity(5, 0)]


@in_loop
async def test_of_many_requests_an_eighth_ends_before_it_is_reported():
    worker, lifeline, _ = await alive(ScriptedEngine(64))
    await asyncio.gather(*(collected(asked(worker, submit("a !sleep:0 b"))) for _ in range(64)))
    running = [report.running for report in [await lifeline.report() for _ in range(4)] if isinstance(report, Activity)]
    assert running == [1, 56, 49, 43]


@in_loop
async def test_other_changes_are_reported_before_a_pulse():
    worker, lifeline, _ = await alive()
    streams = [asked(worker, submit("a !sleep:60")) for _ in range(3)]
    for each in streams:
        await anext(each)
    pulses = asyncio.create_task(worker._send_pulses())
    assert [await lifeline.report() for _ in range(3)] == [Activity(1, 1), Activity(3, 3), Pulse(3, 0, 3)]
    pulses.cancel()
    for each in streams:
        await each.aclose()


@in_loop
async def test_choices_and_texts_count_as_what_runs():
    worker, lifeline, _ = await alive()
    await collected(asked(worker, submit("a", n=3)))
    await collected(asked(worker, Embed(2, EmbedRequest("m", ["a", "b c"]))))
    reports = [await lifeline.report() for _ in range(4)]
    assert reports == [Activity(1, 3), Activity(1, 0), Activity(2, 2), Activity(2, 0)]


@in_loop
async def test_the_models_defaults_hold_beneath_the_request():
    worker, _, _ = await alive()
    defaults = Defaults(Sampling(max_tokens=2))
    for own, text in [(Sampling(), "a b "), (Sampling(max_tokens=3), "a b c ")]:
        command = Submit(1, Request("m", Text("a b c d"), own), defaults)
        assert said(await collected(asked(worker, command))) == text


@in_loop
async def test_texts_are_embedded_and_the_engine_is_measured():
    worker, _, _ = await alive()
    vectors = await collected(asked(worker, Embed(2, EmbedRequest("m", ["a", "b c"]))))
    assert [event.prompt_tokens for event in vectors if isinstance(event, Vectors)] == [1, 2]
    assert await collected(asked(worker, Measure(3))) == [Measured(3, "")]


@in_loop
async def test_a_refused_request_frees_what_it_held():
    worker, lifeline, _ = await alive()
    with pytest.raises(BadRequest, match="no"):
        await collected(asked(worker, submit("!refuse:no")))
    assert [await lifeline.report(), await lifeline.report()] == [Activity(1, 1), Activity(1, 0)]


@in_loop
async def test_a_request_that_is_given_up_frees_its_capacity_at_once():
    engine = ScriptedEngine(1)
    worker, _, _ = await alive(engine)
    events = asked(worker, submit("a !sleep:60 b"))
    await anext(events)
    assert (await engine.pulse()).running == 1
    await events.aclose()
    assert (await engine.pulse()).running == 0
    assert said(await collected(asked(worker, submit("next")))) == "next "


@in_loop
async def test_a_caller_over_its_limit_is_refused():
    worker, _, _ = await alive()
    caller = Caller("one", max_concurrent=1)
    running = asked(worker, submit("a !sleep:60", caller=caller))
    await anext(running)
    with pytest.raises(TooManyRequests):
        await collected(asked(worker, submit("b", caller=caller)))
    await running.aclose()


# --- its life --------------------------------------------------------------------------------------------


@in_loop
async def test_a_worker_ends_with_its_host_and_what_runs_ends_with_an_error(tmp_path: Path):
    worker, lifeline, reader = await alive()
    life = asyncio.create_task(worker.run(str(tmp_path / "m.sock"), reader))
    assert await lifeline.report() == Ready(4096, "cpu", 0)
    assert await lifeline.report() == Pulse(0, 0)
    running = asyncio.create_task(collected(asked(worker, submit("a !sleep:60"))))
    assert await lifeline.report(Activity) == Activity(1, 1)
    lifeline.writer.close()
    assert await life == 0
    with pytest.raises(Drained, match="the engine is going down"):
        await running


@in_loop
async def test_a_worker_whose_engine_dies_reports_why_and_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    engine = ScriptedEngine(4)

    async def dead() -> Pulse:
        raise EngineGone("its EngineCore was killed by SIGILL")

    engine.pulse = dead  # type: ignore[method-assign]
    worker, lifeline, reader = await alive(engine)
    assert await worker.run(str(tmp_path / "m.sock"), reader) == ENGINE_DIED
    assert await lifeline.report(EngineDied) == EngineDied("its EngineCore was killed by SIGILL")
    assert "the engine died: its EngineCore was killed by SIGILL" in caplog.text


def test_a_scripted_engine_is_built_as_its_arguments_say():
    options = WorkerOptions("s", 0, 0, "scripted", "weights", {"max_num_seqs": 3})
    assert build(options).capacity == 3
    with pytest.raises(RuntimeError, match="no such repository"):
        build(WorkerOptions("s", 0, 0, "scripted", "weights", {"fail": "no such repository"}))


@pytest.mark.parametrize(
    ("text", "reported"),
    [("no such repository", "no such repository"), ("\ud800", "\\ud800")],
    ids=["a sentence", "a surrogate"],
)
@in_loop
async def test_a_model_that_does_not_load_is_reported(text: str, reported: str):
    # pytest can't pass a log with a surrogate on from one of its processes to another.
    process.logger.disabled = True
    ours, theirs = socket.socketpair()
    options = WorkerOptions("s", theirs.detach(), 0, "scripted", "weights", {"fail": text})
    assert await process.run(options) == ENGINE_DIED
    lifeline = Lifeline(*await asyncio.open_connection(sock=ours))
    assert await lifeline.report() == LoadFailed(f"RuntimeError: {reported}")
    process.logger.disabled = False


@in_loop
async def test_an_engine_is_ready_when_it_has_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answered = asyncio.Event()

    async def warm_up(engine: ScriptedEngine) -> None:
        await answered.wait()

    monkeypatch.setattr(ScriptedEngine, "warm_up", warm_up)
    ours, theirs = socket.socketpair()
    options = WorkerOptions(str(tmp_path / "m.sock"), theirs.detach(), 0, "scripted", "weights")
    running = asyncio.create_task(process.run(options))
    lifeline = Lifeline(*await asyncio.open_connection(sock=ours))
    first = asyncio.create_task(lifeline.report())
    await settle()
    assert not first.done()
    answered.set()
    assert isinstance(await first, Ready)
    # What was made at the start is left out of garbage collections.
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    lifeline.writer.close()
    await running


@in_loop
async def test_an_engine_that_dies_of_its_first_request_is_not_ready(monkeypatch: pytest.MonkeyPatch):
    async def warm_up(engine: ScriptedEngine) -> None:
        raise EngineGone("EngineCore was killed by SIGILL")

    monkeypatch.setattr(ScriptedEngine, "warm_up", warm_up)
    ours, theirs = socket.socketpair()
    running = asyncio.create_task(process.run(WorkerOptions("s", theirs.detach(), 0, "scripted", "weights")))
    lifeline = Lifeline(*await asyncio.open_connection(sock=ours))
    assert await lifeline.report() == LoadFailed("EngineGone: EngineCore was killed by SIGILL")
    assert await running == ENGINE_DIED
