"""Continue an answer that another engine has begun, as if this engine had preempted it.

A moved request brings the tokens that its answer has so far. The scheduler appends them as output before it schedules
the request the first time. From there on vLLM runs the code that it runs after a preemption of its own, so penalties,
seeds, `min_tokens`, stop strings and grammars continue exactly. Imported in the processes of vLLM's core, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.sampling_params import SamplingParams
from vllm.v1.request import Request, RequestStatus
from vllm.v1.worker import gpu_model_runner

from .rewinding_generator import rewinding

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.outputs import ModelRunnerOutput

# The key in SamplingParams.extra_args under which the tokens so far travel to the scheduler.
SO_FAR = "vllm_wsgi_so_far"


def so_far(parameters: SamplingParams | None) -> list[int]:
    """Return the output tokens that another engine has generated for this request; empty for a request of our own."""
    extra = parameters.extra_args if parameters is not None else None
    return list(extra.get(SO_FAR, ())) if extra else []


class Resuming:
    """A mixin under vLLM's scheduler that takes moved requests.

    The first output of such a request covers the tokens so far as well as the new one. The stages behind the
    scheduler (detokenizer, search for stop strings, parsers) thus rebuild their state with their own code.
    """

    requests: dict[str, Request]
    structured_output_manager: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._moved: dict[str, list[int]] = {}

    def add_request(self, request: Request) -> None:
        tokens = so_far(request.sampling_params)
        if tokens and request.request_id not in self.requests:
            request.append_output_token_ids(tokens)
            # Without a preemption the scheduler asserts that the prefix cache holds no more than the prompt.
            request.num_preemptions = 1
            self._moved[request.request_id] = tokens
        super().add_request(request)  # type: ignore[misc]

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        """Advance the grammar of a moved request over the tokens so far, once that grammar is compiled."""
        waited = request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
        ready: bool = super()._handle_blocked_waiting_request(request)  # type: ignore[misc]
        if ready and waited and request.request_id in self._moved:
            self.structured_output_manager.accept_tokens(request, self._moved[request.request_id])
        return ready

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        step: dict[int, EngineCoreOutputs] = super().update_from_output(  # type: ignore[misc]
            scheduler_output, model_runner_output
        )
        if self._moved:
            for front in step.values():
                for output in front.outputs:
                    tokens = self._moved.pop(output.request_id, None)
                    if tokens is not None:
                        output.new_token_ids = [*tokens, *output.new_token_ids]
        return step

    def finish_requests(self, request_ids: Any, *arguments: Any, **named: Any) -> Any:
        """Forget moved requests that end before their first output."""
        ids = [request_ids] if isinstance(request_ids, str) else None if request_ids is None else list(request_ids)
        for each in list(self._moved) if ids is None else ids:
            self._moved.pop(each, None)
        return super().finish_requests(ids, *arguments, **named)  # type: ignore[misc]


_CachedRequestState = gpu_model_runner.CachedRequestState


def _resumed_state(**fields: Any) -> Any:
    """Return the first model runner's state of a new request, with the tokens so far as its output.

    The second model runner gets all tokens from the scheduler and needs nothing. A generator of the CPU build is
    advanced by one draw for each token.
    """
    tokens = so_far(fields.get("sampling_params"))
    if tokens:
        fields["output_token_ids"] = tokens
    state = _CachedRequestState(**fields)
    if state.generator is not None and state.generator.device.type == "cpu":
        state.generator = rewinding(state.generator, state.output_token_ids)
    return state


class ResumingWorker:
    """The base of our worker extension: with it, each worker process of the engine imports this module."""


gpu_model_runner.CachedRequestState = _resumed_state
