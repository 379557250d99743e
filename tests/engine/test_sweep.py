"""The sweep over vLLM's own output processor, detokenizer and tokenizer; the core is a list of steps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest
import torch
from vllm import PoolingParams, SamplingParams
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers import get_tokenizer
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.engine.parallel_sampling import ParentRequest
from vllm.v1.metrics.stats import IterationStats

from service.engine.vllm.answer_parser import Stops
from service.engine.vllm.outputs import Answers
from service.engine.vllm.sweep import Sweep
from service.errors import EngineFailure
from service.protocol.events import Delta, Event, Finished
from service.protocol.request import Request, SoFar, Text
from tests.support.loop import in_loop, settle
from tests.support.servers import ROOT

TOKENIZER = get_tokenizer(str(ROOT / "models" / "demo"))
TEXT = "What is vllm-wsgi? It has 世界 and 🎉 in it."
IDS = TOKENIZER.encode(TEXT, add_special_tokens=False)
LAST = {"finish_reason": FinishReason.LENGTH}


class Core:
    """An AsyncLLM without a core, as far as a sweep uses it."""

    def __init__(self) -> None:
        self.output_processor = OutputProcessor(TOKENIZER, log_stats=True)
        self.aborted: list[str] = []
        self.stats: list[IterationStats] = []
        self._ids = itertools.count()

    async def add_request(self, request_id: str, prompt: Any, params: SamplingParams, **how: Any) -> Any:
        if prompt is None:
            raise RuntimeError("vLLM's own mistake")
        name = f"{request_id}-{next(self._ids)}"
        request = EngineCoreRequest(name, [1], None, params, None, 0.0, None, None, None)
        request.external_req_id = request_id
        collector = RequestOutputCollector(params.output_kind, name)
        if params.n == 1:
            self.output_processor.add_request(request, None, queue=collector)
            return collector
        parent = ParentRequest(request)
        for index in range(params.n):
            child = copy(request)
            child.request_id, child.sampling_params = parent.get_child_info(index)
            self.output_processor.add_request(child, None, parent, index, collector)
        return collector

    def embed(self) -> RequestOutputCollector:
        """Begin a request for a vector, as `AsyncLLM.encode` does."""
        request = EngineCoreRequest("v", [1], None, None, PoolingParams(task="embed"), 0.0, None, None, None)
        request.external_req_id = "v"
        collector = RequestOutputCollector(RequestOutputKind.FINAL_ONLY, "v")
        self.output_processor.add_request(request, None, queue=collector)
        return collector

    async def abort(self, request_id: str, internal: bool) -> None:
        self.aborted += self.output_processor.abort_requests([request_id], internal)

    def step(self, token_ids: list[int], weight_version: str = "default", **first: Any) -> None:
        """One step: the same tokens for every request."""
        stats = IterationStats()
        outputs = [EngineCoreOutput(name, list(token_ids), **first) for name in self.output_processor.request_states]
        self.output_processor.process_outputs(outputs, 1.0, stats, weight_version)
        self.stats.append(stats)


class Asked:
    """A request that runs."""

    def __init__(self, sweep: Sweep, prompt: Any = "a", stop: str = "", **fields: Any) -> None:
        request = Request("m", Text("a"), **fields)
        self.answers = answers = Answers(7, request, [None] * request.n, [1], Stops([]), TOKENIZER.decode)
        parameters = SamplingParams(output_kind=RequestOutputKind.DELTA, stop=stop or None, n=request.n)
        self.events: list[Event] = []
        # Called with each event.
        self.take: Callable[[Event], None] = self.events.append
        self.task = asyncio.create_task(sweep.generate(answers, self._emit, prompt, parameters, "r"))

    def _emit(self, event: Event) -> None:
        self.take(event)

    def leave(self, event: Event) -> None:
        """Take an event, and cancel the request meanwhile."""
        self.events.append(event)
        self.task.cancel()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))


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
