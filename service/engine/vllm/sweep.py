"""Takes what a step of vLLM's core brought in one synchronous sweep: detokenize, parse, emit.

`AsyncLLM.generate` makes a `RequestOutput` of every token, puts it into a queue, and wakes the task of its request.
Here an output becomes an event where vLLM's output handler has it, so a token costs none of these. All that this needs
of `AsyncLLM`, `OutputProcessor` and `RequestOutputCollector` is in this module; tests/engine/test_contract.py lists it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import attrgetter, is_
from typing import Any

from vllm import SamplingParams
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.outputs import RequestOutput
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import OutputProcessorOutput, RequestOutputCollector

from ..backend import Emit
from .outputs import Answers

_beside_tokens = attrgetter(*EngineCoreOutput.__struct_fields__[2:])
_NOTHING = _beside_tokens(EngineCoreOutput("", []))


class Sweep:
    """The way of requests into one AsyncLLM, and of their outputs back."""

    def __init__(self, engine: AsyncLLM) -> None:
        self._engine = engine
        self._processor = engine.output_processor
        self._vllms_process = self._processor.process_outputs
        self._processor.process_outputs = self._process
        self._weight_version: str | None = None
        # By vLLM's id: the requests whose next tokens need nothing but a detokenizer and a parser.
        self._plain: dict[str, Sink] = {}

    async def generate(
        self, answers: Answers, emit: Emit, prompt: Any, parameters: SamplingParams, request_id: str, **how: Any
    ) -> None:
        """Emit all events of the answers. `how` goes to vLLM. Raises what vLLM raises, and what `answers` raises."""
        collector = await self._begin(request_id, prompt, parameters, how)
        sink = Sink(answers, emit)
        # vLLM searches for stop strings, which may hold text back, and joins tokens where it is asked to.
        needs_vllm = parameters.stop or parameters.stream_interval or self._processor.stream_interval > 1
        self._connect(collector, sink, may_be_plain=not needs_vllm)
        try:
            await sink.ended
        finally:
            self._plain.pop(collector.request_id, None)
            sink.close()
            if not sink.vllm_finished:
                await self._engine.abort(collector.request_id, internal=True)
            collector.close()

    async def _begin(
        self, request_id: str, prompt: Any, parameters: SamplingParams, how: dict[str, Any]
    ) -> RequestOutputCollector:
        """Hand the request to vLLM. An error of another kind is one of vLLM's own, as in `AsyncLLM.generate`."""
        try:
            return await self._engine.add_request(request_id, prompt, parameters, **how)
        except (EngineDeadError, VLLMClientError, GracefulHTTPError):
            raise
        except Exception as error:
            raise EngineGenerateError() from error

    def _connect(self, collector: RequestOutputCollector, sink: Sink, may_be_plain: bool) -> None:
        """Have the sink get what vLLM puts into the collector, and what is in it already."""

        def put(output: RequestOutput | Exception) -> None:
            sink.put(output)
            if may_be_plain and not sink.vllm_finished and sink.answers.is_plain():
                self._plain[collector.request_id] = sink

        early, collector.output = collector.output, None
        collector.put = put
        if early is not None:
            put(early)

    def _process(
        self,
        engine_core_outputs: list[EngineCoreOutput],
        engine_core_timestamp: float | None = None,
        iteration_stats: Any = None,
        weight_version: str | None = None,
    ) -> OutputProcessorOutput:
        """Take vLLM's place in its output handler. vLLM does what is not plain, and puts the result into a sink."""
        if weight_version == self._weight_version:
            engine_core_outputs = [
                output
                for output in engine_core_outputs
                if not self._take(output, engine_core_timestamp, iteration_stats)
            ]
        self._weight_version = weight_version
        return self._vllms_process(engine_core_outputs, engine_core_timestamp, iteration_stats, weight_version)

    def _take(self, output: EngineCoreOutput, timestamp: float | None, iteration_stats: Any) -> bool:
        """Take a plain output; return whether it was one."""
        sink = self._plain.get(output.request_id)
        if sink is None or not all(map(is_, _beside_tokens(output), _NOTHING)):
            return False
        state = self._processor.request_states.get(output.request_id)
        if state is None:
            return False
        if iteration_stats is not None:
            iteration_stats.update_from_output(
                output, timestamp, False, state.stats, self._processor.lora_states, state.lora_name
            )
        sink.put_tokens(state.detokenizer, output.new_token_ids)
        return True


class Sink:
    """Makes events of one request's outputs, in vLLM's output handler: nothing that it raises may get there."""

    def __init__(self, answers: Answers, emit: Emit) -> None:
        self.answers = answers
        self._emit = emit
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.vllm_finished = False

    def put(self, output: RequestOutput | Exception) -> None:
        """Take an output, or the error that ends the request."""
        if isinstance(output, Exception):
            self.vllm_finished = True
            self._fail(output)
            return
        self.vllm_finished = output.finished
        if self.ended.done():
            return
        try:
            for event in self.answers.events(output):
                self._emit(event)
        except Exception as error:
            self._fail(error)
        # The receiver of an event may cancel the request.
        if (output.finished or self.answers.ended) and not self.ended.done():
            self.ended.set_result(None)

    def put_tokens(self, detokenizer: Any, token_ids: Sequence[int]) -> None:
        """Take tokens of an answer that is plain and goes on."""
        if self.ended.done():
            return
        try:
            self._emit(self.answers.more(detokenizer, token_ids))
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Take nothing more."""
        if self.ended.done() and not self.ended.cancelled():
            # asyncio logs an exception that nobody has looked at.
            self.ended.exception()
        self.ended.cancel()

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
