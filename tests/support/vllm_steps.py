"""vLLM's own output processor under a sweep, without a core: the test makes the steps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from copy import copy
from typing import Any

from vllm import PoolingParams, SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.tokenizers import get_tokenizer
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.engine.parallel_sampling import ParentRequest
from vllm.v1.metrics.stats import IterationStats

from service.engine.vllm.answer_parser import Stops
from service.engine.vllm.outputs import Answers
from service.engine.vllm.sweep import Sweep
from service.protocol.events import Delta, Event
from service.protocol.request import Request, Text
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
