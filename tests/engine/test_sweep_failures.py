"""The sweep when requests fail, are given up or are cancelled; the core is a list of steps."""

from __future__ import annotations

import asyncio

import pytest
from vllm.v1.engine import FinishReason
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from service.engine.vllm.sweep import Sweep
from service.errors import EngineFailure
from service.protocol.events import Event
from tests.support.loop import in_loop, settle
from tests.support.vllm_steps import IDS, LAST, TEXT, Asked, Core


@in_loop
async def test_a_request_that_is_given_up_is_aborted():
    core = Core()
    asked = Asked(Sweep(core))
    await settle()
    core.step(IDS[:2])
    asked.task.cancel()
    await settle()
    assert (asked.task.cancelled(), core.aborted) == (True, ["r-0"])
    core.step(IDS[2:3])
    assert len(asked.events) == 1


@in_loop
async def test_a_failure_ends_its_request_and_no_other():
    core = Core()
    sweep = Sweep(core)
    broken, whole = Asked(sweep), Asked(sweep)
    await settle()
    core.step(IDS[:1])
    broken.answers._answers[0].more = None  # type: ignore[method-assign,assignment]
    core.step(IDS[1:2])
    core.step(IDS[2:3], **LAST)
    with pytest.raises(TypeError):
        await broken.task
    await whole.task
    assert (core.aborted, len(whole.events)) == ([], 4)


def refuse(event: Event) -> None:
    raise ValueError("the event can't be taken")


@pytest.mark.parametrize("before", [0, 1], ids=["the first tokens", "plain tokens"])
@in_loop
async def test_an_event_that_can_not_be_taken_ends_its_request_and_no_other(before: int):
    core = Core()
    sweep = Sweep(core)
    broken, whole = Asked(sweep), Asked(sweep)
    await settle()
    for token_id in IDS[:before]:
        core.step([token_id])
    broken.take = refuse
    for token_id in IDS[before:-1]:
        core.step([token_id])
    with pytest.raises(ValueError, match="taken"):
        await broken.task
    core.step(IDS[-1:], **LAST)
    await whole.task
    assert (whole.text, core.aborted) == (TEXT, ["r-0"])
    assert not sweep._plain


@pytest.mark.parametrize("before", [0, 1, len(IDS) - 1], ids=["the first tokens", "plain tokens", "the end"])
@in_loop
async def test_a_request_may_be_cancelled_inside_its_own_event(before: int):
    core = Core()
    sweep = Sweep(core)
    gone, whole = Asked(sweep), Asked(sweep)
    await settle()
    for token_id in IDS[:before]:
        core.step([token_id])
    gone.take = gone.leave
    core.step(IDS[before : before + 1], **(LAST if before == len(IDS) - 1 else {}))
    for token_id in IDS[before + 1 : -1]:
        core.step([token_id])
    if before < len(IDS) - 1:
        core.step(IDS[-1:], **LAST)
    await whole.task
    with pytest.raises(asyncio.CancelledError):
        await gone.task
    assert (whole.text, not sweep._plain, core.output_processor.request_states) == (TEXT, True, {})
    assert core.output_processor.external_req_ids.get("r", []) == []


@in_loop
async def test_a_request_that_is_given_up_before_its_first_token_is_aborted():
    core = Core()
    asked = Asked(Sweep(core))
    await settle()
    asked.task.cancel()
    await settle()
    assert (core.aborted, asked.events) == (["r-0"], [])
    core.step(IDS[:1])


@in_loop
async def test_several_answers_that_are_given_up_are_aborted_together():
    core = Core()
    asked = Asked(Sweep(core), n=2)
    await settle()
    core.step(IDS[:1])
    asked.task.cancel()
    await settle()
    assert sorted(core.aborted) == ["0_r-0", "1_r-0"]
    assert not core.output_processor.parent_requests


@in_loop
async def test_a_failure_of_the_core_ends_the_request():
    core = Core()
    asked = Asked(Sweep(core))
    await settle()
    core.step(IDS[:1])
    core.step([], finish_reason=FinishReason.ERROR)
    with pytest.raises(EngineFailure):
        await asked.task


@in_loop
async def test_a_dead_core_ends_all_requests_and_aborts_none():
    core = Core()
    sweep = Sweep(core)
    asked = [Asked(sweep), Asked(sweep)]
    await settle()
    core.step(IDS[:1])
    core.output_processor.propagate_error(EngineDeadError())
    for each in asked:
        with pytest.raises(EngineDeadError):
            await each.task
    assert core.aborted == []


@in_loop
async def test_another_error_of_vllm_is_called_as_vllm_calls_it():
    with pytest.raises(EngineGenerateError):
        await Asked(Sweep(Core()), prompt=None).task
