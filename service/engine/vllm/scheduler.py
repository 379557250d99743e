"""vLLM's scheduler, which continues moved answers, and keeps the steps of a CPU short while prompts are long.

The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import time
from typing import Any

from vllm.config import SchedulerConfig
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput

from .compiling import DroppingGrammars
from .resume import Resuming
from .step_limit import StepLimit


class ShortSteps(Resuming, DroppingGrammars, Scheduler):  # type: ignore[misc]
    """The scheduler of one engine. Every output leaves with the step that computed it."""

    max_num_scheduled_tokens: int

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._most_tokens: int = self.max_num_scheduled_tokens
        self._limit = StepLimit(self._most_tokens) if _can_be_short(self.scheduler_config) else None
        # When each step began that is still computed.
        self._begun: dict[int, float] = {}

    def schedule(self, *arguments: Any, **named: Any) -> SchedulerOutput:
        if self._limit is not None:
            self.max_num_scheduled_tokens = min(self._most_tokens, len(self.running) + self._limit.tokens)
        step: SchedulerOutput = super().schedule(*arguments, **named)
        if self._limit is not None:
            self._begun[id(step)] = time.monotonic()
        return step

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        began = self._begun.pop(id(scheduler_output), None)
        if self._limit is not None and began is not None:
            # One token of each request is not of its prompt, but of its answer.
            tokens = scheduler_output.total_num_scheduled_tokens - len(scheduler_output.num_scheduled_tokens)
            self._limit.took(time.monotonic() - began, tokens)
        return super().update_from_output(scheduler_output, model_runner_output)


class AsyncShortSteps(ShortSteps, AsyncScheduler):  # type: ignore[misc]
    """The same for vLLM's asynchronous scheduler."""


def _can_be_short(config: SchedulerConfig) -> bool:
    """Return whether prompts may be computed in pieces of any size, and are computed on a CPU."""
    return bool(current_platform.is_cpu() and config.enable_chunked_prefill and not config.disable_chunked_mm_input)


_OURS: dict[type, type] = {Scheduler: ShortSteps, AsyncScheduler: AsyncShortSteps}


def use_our_scheduler(config: SchedulerConfig) -> None:
    """Give an engine of this configuration our scheduler, unless the operator has chosen one."""
    if config.scheduler_cls is None:
        config.scheduler_cls = _OURS[config.get_scheduler_cls()]
