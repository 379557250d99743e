"""Callers take turns, and no one has all of them."""

from __future__ import annotations

import asyncio

from service.engine.vllm.turns import Turns
from tests.support.loop import in_loop, settle


@in_loop
async def test_a_caller_never_has_all_turns_and_others_come_in_between():
    turns, order = Turns(2), list[str]()

    async def work(caller: str, gate: asyncio.Event) -> None:
        async with turns.turn(caller):
            order.append(caller)
            await gate.wait()

    gate = asyncio.Event()
    tasks = [asyncio.create_task(work(caller, gate)) for caller in ("a", "a", "a")]
    await settle()
    assert order == ["a"]
    tasks.append(asyncio.create_task(work("b", gate)))
    await settle()
    assert order == ["a", "b"]
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "a", "a"]


@in_loop
async def test_who_leaves_while_it_waits_leaves_its_turn_to_others():
    turns = Turns(1)
    await turns.begin("a")
    left, stays = asyncio.create_task(turns.begin("b")), asyncio.create_task(turns.begin("b"))
    await settle()
    left.cancel()
    turns.end("a")
    await stays
    assert not turns._waiting
