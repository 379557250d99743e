"""The sweep over vLLM's own output processor, detokenizer and tokenizer; the core is a list of steps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from vllm.outputs import RequestOutput
from vllm.v1.engine import FinishReason

from service.engine.vllm.sweep import Sweep
from service.protocol.events import Delta, Finished
from service.protocol.request import SoFar
from tests.support.loop import in_loop, settle
from tests.support.vllm_steps import IDS, LAST, TEXT, TOKENIZER, Asked, Core


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each RequestOutput that vLLM makes."""
    made: list[int] = []
    init = RequestOutput.__init__

    def counted(self: RequestOutput, *arguments: Any, **named: Any) -> None:
        made.append(1)
        init(self, *arguments, **named)

    monkeypatch.setattr(RequestOutput, "__init__", counted)
    return made


@pytest.mark.parametrize("fields", [{}, {"stop": "never"}], ids=["plain", "by vLLM"])
@pytest.mark.parametrize("joined", [1, 3])
@in_loop
async def test_an_answer_is_the_same_whoever_takes_its_tokens(fields: dict[str, Any], joined: int):
    core = Core()
    asked = Asked(Sweep(core), **fields)
    await settle()
    for start in range(0, len(IDS), joined):
        core.step(IDS[start : start + joined], **(LAST if start + joined >= len(IDS) else {}))
    await asked.task
    *deltas, finished = asked.events
    assert asked.text == TEXT
    assert [token_id for delta in deltas for token_id in delta.token_ids] == IDS
    assert [delta.seq for delta in deltas] == list(range(0, len(IDS), joined))
    assert [delta.prompt_tokens for delta in deltas] == [1] + [0] * (len(deltas) - 1)
    assert (finished.reason, finished.output_tokens, finished.prompt_tokens) == ("length", len(IDS), 1)
    assert sum(stats.num_generation_tokens for stats in core.stats) == len(IDS)
    assert [len(stats.inter_token_latencies_iter) for stats in core.stats] == [0] + [1] * (len(deltas) - 1)
    assert not core.output_processor.request_states


@in_loop
async def test_events_come_up_inside_the_sweep_without_a_wake_up():
    core = Core()
    sweep = Sweep(core)
    asked = [Asked(sweep), Asked(sweep)]
    await settle()
    core.step(IDS[:1])
    core.step(IDS[1:2])
    assert [len(each.events) for each in asked] == [2, 2]
    core.step(IDS[2:3], **LAST)
    assert [type(each.events[-1]) for each in asked] == [Finished, Finished]
    await asyncio.gather(*(each.task for each in asked))


def test_vllm_makes_an_object_for_the_first_and_the_last_token_only(made: list[int]):
    async def answer() -> None:
        core = Core()
        asked = Asked(Sweep(core))
        await settle()
        for token_id in IDS[:-1]:
            core.step([token_id])
        core.step(IDS[-1:], **LAST)
        await asked.task

    asyncio.run(answer())
    assert len(made) == 2


@in_loop
async def test_stop_strings_are_vllms():
    core = Core()
    asked = Asked(Sweep(core), stop="wsgi")
    await settle()
    for token_id in IDS:
        core.step([token_id])
    await asked.task
    assert asked.text == TEXT.partition("wsgi")[0]
    assert asked.events[-1].reason == "stop"
    assert core.aborted == []


@in_loop
async def test_several_answers_to_one_request_are_told_apart():
    core = Core()
    asked = Asked(Sweep(core), n=2)
    await settle()
    for token_id in IDS[:-1]:
        core.step([token_id])
    core.step(IDS[-1:], **LAST)
    await asked.task
    for index in range(2):
        mine = [event for event in asked.events if event.index == index]
        assert "".join(event.text for event in mine[:-1]) == TEXT
        assert (type(mine[-1]), mine[-1].output_tokens) == (Finished, len(IDS))


@pytest.mark.parametrize("fields", [{"logprobs": 1}, {"n": 2}], ids=["log probabilities", "several answers"])
@in_loop
async def test_what_is_not_plain_is_left_to_vllm(fields: dict[str, Any]):
    core = Core()
    sweep = Sweep(core)
    asked = Asked(sweep, **fields)
    await settle()
    core.step(IDS[:1])
    core.step(IDS[1:2])
    assert not sweep._plain
    asked.task.cancel()


@in_loop
async def test_a_moved_answer_leaves_out_what_its_client_has_and_is_plain_then(made: list[int]):
    has = TOKENIZER.decode(IDS[:4])
    core = Core()
    asked = Asked(Sweep(core), so_far=SoFar(IDS[:4], len(has), 0, 0))
    await settle()
    # The first output of a moved request covers the tokens so far.
    core.step(IDS[:5])
    for token_id in IDS[5:-1]:
        core.step([token_id])
    core.step(IDS[-1:], **LAST)
    await asked.task
    assert has + asked.text == TEXT
    deltas = [event for event in asked.events if isinstance(event, Delta)]
    assert [token_id for delta in deltas for token_id in delta.token_ids] == IDS[4:]
    assert (deltas[0].seq, asked.events[-1].output_tokens, len(made)) == (4, len(IDS), 2)


@in_loop
async def test_vectors_are_vllms():
    core = Core()
    Sweep(core)
    collector = core.embed()
    vector = torch.ones(2)
    core.step([], pooling_output=vector, finish_reason=FinishReason.STOP)
    assert (await collector.get()).outputs.data is vector


@in_loop
async def test_cores_with_weights_of_different_versions_answer_the_same():
    core = Core()
    asked = Asked(Sweep(core))
    await settle()
    for number, token_id in enumerate(IDS[:-1]):
        core.step([token_id], weight_version=str(number // 2 % 2))
    core.step(IDS[-1:], **LAST)
    await asked.task
    assert asked.text == TEXT


@in_loop
async def test_two_engines_in_one_process_are_kept_apart():
    cores = Core(), Core()
    asked = [Asked(Sweep(core)) for core in cores]
    await settle()
    for core in cores:
        core.step(IDS[:1])
        core.step(IDS[1:2])
    assert [[event.token_ids for event in each.events] for each in asked] == [[IDS[:1], IDS[1:2]]] * 2
    for each in asked:
        each.task.cancel()
