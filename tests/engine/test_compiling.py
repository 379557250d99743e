"""Grammars that take long to compile: callers take turns, and what nobody waits for any more is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.request import RequestStatus

from service.engine.vllm import grammars
from service.engine.vllm.compiling import Compiling, DroppingGrammars
from service.engine.vllm.grammars import Grammars, costly
from tests.support.loop import in_loop, settle


class Core:
    """Outputs of requests, the first of which comes when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.compiled = asyncio.Event()

    async def outputs(self, name: str) -> AsyncGenerator[str, None]:
        self.begun.append(name)
        await self.compiled.wait()
        yield f"{name}1"
        yield f"{name}2"


async def collected(outputs: AsyncGenerator[str, None]) -> list[str]:
    async with aclosing(outputs):
        return [output async for output in outputs]


@in_loop
async def test_one_caller_has_as_many_grammars_compiled_as_there_are_threads_and_others_their_own():
    core, compiling = Core(), Compiling(threads=1)
    first = asyncio.create_task(collected(compiling.in_turn("a", 1, core.outputs("a"))))
    second = asyncio.create_task(collected(compiling.in_turn("a", 2, core.outputs("b"))))
    other = asyncio.create_task(collected(compiling.in_turn("b", 3, core.outputs("c"))))
    plain = asyncio.create_task(collected(compiling.in_turn("a", None, core.outputs("d"))))
    await settle()
    assert sorted(core.begun) == ["a", "c", "d"]
    core.compiled.set()
    assert await first == ["a1", "a2"]
    assert [len(await each) for each in (second, other, plain)] == [2, 2, 2]


@in_loop
async def test_a_grammar_that_is_compiled_waits_for_no_turn():
    core, compiling = Core(), Compiling(threads=1)
    core.compiled.set()
    await collected(compiling.in_turn("a", 1, core.outputs("a")))
    core.compiled.clear()
    waiting = asyncio.create_task(collected(compiling.in_turn("a", 2, core.outputs("b"))))
    known = asyncio.create_task(collected(compiling.in_turn("a", 1, core.outputs("c"))))
    await settle()
    assert core.begun == ["a", "b", "c"]
    core.compiled.set()
    assert len(await waiting) == len(await known) == 2


@in_loop
async def test_a_client_that_leaves_ends_its_turn():
    core, compiling = Core(), Compiling(threads=1)
    gone = asyncio.create_task(collected(compiling.in_turn("a", 1, core.outputs("a"))))
    stays = asyncio.create_task(collected(compiling.in_turn("a", 2, core.outputs("b"))))
    await settle()
    gone.cancel()
    await settle()
    assert core.begun == ["a", "b"]
    core.compiled.set()
    assert await stays == ["b1", "b2"]


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
