"""Grammars that take long to compile: callers take turns, and what nobody waits for any more is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.request import RequestStatus

from service.engine.vllm import grammars
from service.engine.vllm.compiling import Compiling, DroppingGrammars
from service.engine.vllm.grammars import Grammars, costly
from service.errors import BadRequest
from tests.support.loop import in_loop, settle


class Core:
    """Answers requests, each with two events, once the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.compiled = asyncio.Event()

    async def answer(self, name: str, emit: Callable[[Any], None]) -> None:
        self.begun.append(name)
        await self.compiled.wait()
        emit(f"{name}1")
        emit(f"{name}2")


async def answered(compiling: Compiling, core: Core, caller: str, grammar: int | None, name: str) -> list[str]:
    events: list[Any] = []
    await compiling.in_turn(caller, grammar, partial(core.answer, name), events.append)
    return events


@in_loop
async def test_one_caller_has_as_many_grammars_compiled_as_there_are_threads_and_others_their_own():
    core, compiling = Core(), Compiling(threads=1)
    first = asyncio.create_task(answered(compiling, core, "a", 1, "a"))
    second = asyncio.create_task(answered(compiling, core, "a", 2, "b"))
    other = asyncio.create_task(answered(compiling, core, "b", 3, "c"))
    plain = asyncio.create_task(answered(compiling, core, "a", None, "d"))
    await settle()
    assert sorted(core.begun) == ["a", "c", "d"]
    core.compiled.set()
    assert await first == ["a1", "a2"]
    assert [len(await each) for each in (second, other, plain)] == [2, 2, 2]


@in_loop
async def test_a_grammar_that_is_compiled_waits_for_no_turn():
    core, compiling = Core(), Compiling(threads=1)
    core.compiled.set()
    await answered(compiling, core, "a", 1, "a")
    core.compiled.clear()
    waiting = asyncio.create_task(answered(compiling, core, "a", 2, "b"))
    known = asyncio.create_task(answered(compiling, core, "a", 1, "c"))
    await settle()
    assert core.begun == ["a", "b", "c"]
    core.compiled.set()
    assert len(await waiting) == len(await known) == 2


@in_loop
async def test_a_client_that_leaves_ends_its_turn():
    core, compiling = Core(), Compiling(threads=1)
    gone = asyncio.create_task(answered(compiling, core, "a", 1, "a"))
    stays = asyncio.create_task(answered(compiling, core, "a", 2, "b"))
    await settle()
    gone.cancel()
    await settle()
    assert core.begun == ["a", "b"]
    core.compiled.set()
    assert await stays == ["b1", "b2"]


@in_loop
async def test_a_request_that_fails_ends_its_turn_and_its_grammar_stays_unknown():
    core, compiling = Core(), Compiling(threads=1)
    core.compiled.set()

    async def fail(emit: Callable[[Any], None]) -> None:
        raise BadRequest("the grammar can't be compiled")

    with pytest.raises(BadRequest):
        await compiling.in_turn("a", 1, fail, core.begun.append)
    assert not compiling._known
    assert await answered(compiling, core, "a", 2, "b") == ["b1", "b2"]


@in_loop
async def test_a_request_whose_reader_fails_ends_its_turn_once():
    core, compiling = Core(), Compiling(threads=1)
    core.compiled.set()

    def fail(event: Any) -> None:
        raise ValueError(event)

    for grammar in (1, 2):
        with pytest.raises(ValueError, match="a1"):
            await compiling.in_turn("a", grammar, partial(core.answer, "a"), fail)
    assert compiling._turns._free == 2


def test_what_was_costly_to_check_is_costly_to_compile(monkeypatch: Any) -> None:
    kept = Grammars("xgrammar").constraint({"enum": ["costly or not"]}, None)
    assert costly(kept) is None
    monkeypatch.setattr(grammars, "COSTLY_SECONDS", 0.0)
    costlier = Grammars("xgrammar").constraint({"enum": ["costly, as it were"]}, None)
    assert costly(costlier) == hash(costlier.structural_tag)
    assert costly(None) is costly(StructuredOutputsParams(regex="a")) is None


def test_the_grammar_of_a_request_that_ends_is_dropped_unless_it_is_being_compiled() -> None:
    waiting, running = Future[Any](), Future[Any]()
    running.set_running_or_notify_cancel()
    requests = [
        SimpleNamespace(structured_output_request=grammar and SimpleNamespace(_grammar=grammar))
        for grammar in (waiting, running, None)
    ]

    class Scheduler:
        def finish_requests(self, request_ids: Any, status: RequestStatus) -> list[Any]:
            return requests

    class Dropping(DroppingGrammars, Scheduler):
        pass

    assert Dropping().finish_requests(None, RequestStatus.FINISHED_ABORTED) == requests
    assert (waiting.cancelled(), running.cancelled()) == (True, False)
