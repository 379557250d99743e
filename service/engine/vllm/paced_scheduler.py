"""Joins the tokens of many streams in vLLM's core, which then sends them at intervals.

Each message of the core costs the same for one token as for several: a message between vLLM's processes, the work of
vLLM's front end on each output, a wake-up, a message and a write of ours. So while many streams run, the scheduler
holds their tokens back and joins them until the interval is over. The interval grows with the number of streams. A
stream's first token and its end are never held back, and with few streams no token is.

The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import time
from operator import attrgetter, is_
from typing import Any

from vllm.config import SchedulerConfig
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import ModelRunnerOutput

from .compiling import DroppingGrammars
from .resume import Resuming
from .step_limit import StepLimit

# With this many streams or fewer, one token at a time costs little enough.
FREE_STREAMS = 8
STREAM_SECONDS = 0.0006
# Ten pieces a second still look like a flowing answer.
LONGEST_SECONDS = 0.1

_beside_tokens = attrgetter(*EngineCoreOutput.__struct_fields__[2:])
_NOTHING = _beside_tokens(EngineCoreOutput("", []))

# By the index of the front end that asked: vLLM can have several.
Outputs = dict[int, EngineCoreOutputs]


def interval_seconds(streams: int) -> float:
    """Return the interval in seconds; 0 when nothing is held back."""
    return min(LONGEST_SECONDS, max(0, streams - FREE_STREAMS) * STREAM_SECONDS)


class TokenJoiner:
    """Holds back the outputs of one engine's steps until the interval is over."""

    def __init__(self) -> None:
        # By front end and by request.
        self._kept: dict[int, dict[str, list[EngineCoreOutput]]] = {}
        self._due = 0.0

    @property
    def waits(self) -> bool:
        """Whether the interval is not over yet."""
        return time.monotonic() < self._due

    def passed(self, step: Outputs) -> Outputs:
        """Return what leaves the core after this step."""
        seconds = interval_seconds(sum(len(each.outputs) for each in step.values()))
        if seconds and self.waits:
            return self._urgent(step)
        self._due = time.monotonic() + seconds
        return self._all(step) if self._kept else step

    def _urgent(self, step: Outputs) -> Outputs:
        """Return what must not wait, behind what has been held back of the same requests."""
        leaving: Outputs = {}
        for front, outputs in step.items():
            kept = self._kept.setdefault(front, {})
            urgent: list[EngineCoreOutput] = []
            for output in outputs.outputs:
                _add(kept, output)
                if output.prefill_stats is not None or output.finish_reason is not None:
                    urgent += kept.pop(output.request_id)
            outputs.outputs = urgent
            if urgent or outputs.scheduler_stats is not None or outputs.finished_requests:
                leaving[front] = outputs
        return leaving

    def _all(self, step: Outputs) -> Outputs:
        kept, self._kept = self._kept, {}
        for front, outputs in step.items():
            for output in outputs.outputs:
                _add(kept.setdefault(front, {}), output)
        for front, requests in kept.items():
            everything = [output for outputs in requests.values() for output in outputs]
            if everything:
                step.setdefault(front, EngineCoreOutputs()).outputs = everything
        return step


def _add(kept: dict[str, list[EngineCoreOutput]], output: EngineCoreOutput) -> None:
    """Add an output of a request; join it to the one before when both have tokens and nothing else."""
    outputs = kept.setdefault(output.request_id, [])
    if outputs and _only_tokens(output) and _only_tokens(outputs[-1]):
        outputs[-1].new_token_ids += output.new_token_ids
    else:
        outputs.append(output)


def _only_tokens(output: EngineCoreOutput) -> bool:
    return all(map(is_, _beside_tokens(output), _NOTHING))


class PacedScheduler(Resuming, DroppingGrammars, Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, which sends outputs at intervals, and keeps the steps of a CPU short.

    Tokens wait until the end of the step in which the interval ends, at the longest. Every stream of which something
    is held back takes part in each step, so that no token waits for a step that does not come.
    """

    max_num_scheduled_tokens: int

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._joiner = TokenJoiner()
        self._most_tokens: int = self.max_num_scheduled_tokens
        self._limit = StepLimit(self._most_tokens) if _can_be_short(self.scheduler_config) else None
        # When each step began that is still computed.
        self._begun: dict[int, float] = {}

    def schedule(self, *arguments: Any, **named: Any) -> SchedulerOutput:
        if self._limit is not None:
            self.max_num_scheduled_tokens = min(self._most_tokens, len(self.running) + self._limit.tokens)
        step: SchedulerOutput = super().schedule(*arguments, **named)
        self._begun[id(step)] = time.monotonic()
        return step

    def update_from_output(self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput) -> Outputs:
        began = self._begun.pop(id(scheduler_output), None)
        if self._limit is not None and began is not None:
            # One token of each request is not of its prompt, but of its answer.
            tokens = scheduler_output.total_num_scheduled_tokens - len(scheduler_output.num_scheduled_tokens)
            self._limit.took(time.monotonic() - began, tokens)
        return self._joiner.passed(super().update_from_output(scheduler_output, model_runner_output))

    def make_stats(self, *counted: Any, **named: Any) -> SchedulerStats | None:
        """Return None before the interval is over, unless a count is passed that vLLM reports only once.

        vLLM goes on counting until then. Its front end shows the last statistics that it got, so the last ones
        before the engine is idle are never left out.
        """
        if self._joiner.waits and self.running and not any(counted) and not any(named.values()):
            return None
        return super().make_stats(*counted, **named)


class PacedAsyncScheduler(PacedScheduler, AsyncScheduler):  # type: ignore[misc]
    """The same for vLLM's asynchronous scheduler."""


def _can_be_short(config: SchedulerConfig) -> bool:
    """Return whether prompts may be computed in pieces of any size, and are computed on a CPU."""
    return bool(current_platform.is_cpu() and config.enable_chunked_prefill and not config.disable_chunked_mm_input)


_PACED: dict[type, type] = {Scheduler: PacedScheduler, AsyncScheduler: PacedAsyncScheduler}


def use_paced_scheduler(config: SchedulerConfig) -> None:
    """Have an engine of this configuration join tokens, unless the operator has chosen a scheduler."""
    if config.scheduler_cls is None:
        config.scheduler_cls = _PACED[config.get_scheduler_cls()]
