"""What becomes of a call when vLLM's core dies. Needs vLLM's classes, but no engine."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from service.engine.vllm import failures
from service.engine.vllm.failures import answer_of_core, engine_gone, vllm_errors
from service.errors import BadRequest, EngineGone


def engine(errored: bool = True, **exit_codes: int) -> Any:
    """An AsyncLLM whose processes have these exit codes."""
    manager = SimpleNamespace(finished_procs=lambda: exit_codes)
    core = SimpleNamespace(resources=SimpleNamespace(engine_manager=manager))
    return SimpleNamespace(errored=errored, engine_core=core)


async def answered(value: object) -> object:
    if isinstance(value, Exception):
        raise value
    return value


async def never() -> None:
    await asyncio.Event().wait()


def test_a_call_that_is_never_answered_ends_when_the_core_is_dead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failures, "LOOK_SECONDS", 0.01)
    with pytest.raises(EngineGone, match="EngineCore was killed by SIGILL"):
        asyncio.run(answer_of_core(engine(EngineCore=-signal.SIGILL), never()))


def test_the_answer_of_a_living_core_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failures, "LOOK_SECONDS", 0.001)

    async def slow() -> str:
        await asyncio.sleep(0.02)
        return "alive"

    assert asyncio.run(answer_of_core(engine(errored=False), slow())) == "alive"


def test_a_call_that_fails_raises_our_error():
    with pytest.raises(EngineGone):
        asyncio.run(answer_of_core(engine(), answered(EngineDeadError())))


@pytest.mark.parametrize(
    ("codes", "end"),
    [
        ({}, "the engine stopped"),
        ({"EngineCore": 1}, "the engine stopped"),
        ({"EngineCore": -9}, "EngineCore was killed by SIGKILL (probably by the kernel's out-of-memory killer)"),
        ({"EngineCore": -11}, "EngineCore was killed by SIGSEGV (a memory fault)"),
        ({"EngineCore": -65}, "EngineCore was killed by signal 65"),
    ],
)
def test_the_error_names_the_signal_that_ended_the_core(codes: dict[str, int], end: str):
    assert engine_gone(engine(**codes)).message.endswith(end)


@pytest.mark.parametrize(("codes", "crashed"), [({}, True), ({"A": 1}, True), ({"A": -11}, True), ({"A": -9}, False)])
def test_a_core_that_was_killed_has_not_crashed(codes: dict[str, int], crashed: bool):
    assert engine_gone(engine(**codes)).crashed == crashed


def test_without_processes_of_its_own_an_engine_has_no_cause_to_name():
    no_manager = SimpleNamespace(engine_core=SimpleNamespace(resources=SimpleNamespace(engine_manager=None)))
    assert engine_gone(no_manager).message.endswith("the engine stopped")


def test_what_vllm_refuses_is_the_clients_mistake():
    with pytest.raises(BadRequest, match="too hot") as refused, vllm_errors(engine()):
        raise VLLMValidationError("too hot", parameter="temperature", value=9)
    assert refused.value.param == "temperature"
