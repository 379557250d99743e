"""The sweep over vLLM's own output processor, detokenizer and tokenizer; the core is a list of steps."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers import get_tokenizer
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.metrics.stats import IterationStats

from service.engine.vllm.answer_parser import Stops
from service.engine.vllm.outputs import Answers
from service.engine.vllm.sweep import Sweep
from service.errors import EngineFailure
from service.protocol.events import Delta, Event, Finished
from service.protocol.request import Request, Text
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
        self.output_processor.add_request(request, None, queue=collector)
        return collector

    async def abort(self, request_id: str, internal: bool) -> None:
        self.aborted += self.output_processor.abort_requests([request_id], internal)

    def step(self, token_ids: list[int], **first: Any) -> None:
        """One step: the same tokens for every request."""
        stats = IterationStats()
        outputs = [EngineCoreOutput(name, list(token_ids), **first) for name in self.output_processor.request_states]
        self.output_processor.process_outputs(outputs, 1.0, stats, "default")
        self.stats.append(stats)


class Asked:
    """A request that runs."""

    def __init__(self, sweep: Sweep, prompt: Any = "a", stop: str = "", **fields: Any) -> None:
        request = Request("m", Text("a"), **fields)
        self.answers = answers = Answers(7, request, [None], [1], Stops([]), TOKENIZER.decode)
        parameters = SamplingParams(output_kind=RequestOutputKind.DELTA, stop=stop or None)
        self.events: list[Event] = []
        self.task = asyncio.create_task(sweep.generate(answers, self.events.append, prompt, parameters, "r"))

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
