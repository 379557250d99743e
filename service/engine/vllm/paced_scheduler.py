"""How often the tokens of many streams leave vLLM's core: together, on a beat that slows down as streams are added.

A token costs its share of a message between vLLM's processes, of what its front does with each output, of a wake-up, a
message and a write, and all of these are the same for two tokens. So while many streams run, the scheduler keeps back
and joins what they bring until the beat. A stream's first token and its end are never kept back, and with few streams
nothing is.

Imported in the processes of vLLM's core, too.
"""

from __future__ import annotations

import time
from operator import attrgetter, is_
from typing import Any

from vllm.config import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import ModelRunnerOutput

from .resume import Resuming

# So many streams cost little enough one token at a time.
FREE_STREAMS = 8
STREAM_SECONDS = 0.0006
# An answer in pieces ten times a second still flows.
LONGEST_SECONDS = 0.1

_beside_tokens = attrgetter(*EngineCoreOutput.__struct_fields__[2:])
_NOTHING = _beside_tokens(EngineCoreOutput("", []))

# By the index of the front that asked: vLLM can have several.
Outputs = dict[int, EngineCoreOutputs]


def interval_seconds(streams: int) -> float:
    """From one beat to the next; 0: there is none."""
    return min(LONGEST_SECONDS, max(0, streams - FREE_STREAMS) * STREAM_SECONDS)


class TokenJoiner:
    """What the steps of one engine have brought since the last beat."""

    def __init__(self) -> None:
        # By front and by request.
        self._kept: dict[int, dict[str, list[EngineCoreOutput]]] = {}
        self._due = 0.0

    @property
    def waits(self) -> bool:
        """Whether the beat is still to come."""
        return time.monotonic() < self._due

    def passed(self, step: Outputs) -> Outputs:
        """What is to leave after this step."""
        seconds = interval_seconds(sum(len(each.outputs) for each in step.values()))
        if seconds and self.waits:
            return self._urgent(step)
        self._due = time.monotonic() + seconds
        return self._all(step) if self._kept else step

    def _urgent(self, step: Outputs) -> Outputs:
        """What must not wait, after what has been kept back of the same requests."""
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
    """Two outputs of one request become one where both have tokens and nothing else."""
    outputs = kept.setdefault(output.request_id, [])
    if outputs and _only_tokens(output) and _only_tokens(outputs[-1]):
        outputs[-1].new_token_ids += output.new_token_ids
    else:
        outputs.append(output)


def _only_tokens(output: EngineCoreOutput) -> bool:
    return all(map(is_, _beside_tokens(output), _NOTHING))


class PacedScheduler(Resuming, Scheduler):  # type: ignore[misc]
    """vLLM's scheduler, with what it tells its fronts on a beat.

    Tokens wait for no longer than to the end of the step in which the beat comes; a step that brings something has
    every stream that something is kept back of.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pace = TokenJoiner()

    def update_from_output(self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput) -> Outputs:
        return self._pace.passed(super().update_from_output(scheduler_output, model_runner_output))

    def make_stats(self, *counted: Any, **named: Any) -> SchedulerStats | None:
        """None before the beat, unless something has been counted that is told once: vLLM counts on until then.

        Its front shows the last ones it has been told, so that nothing may be left out once all is quiet.
        """
        if self._pace.waits and self.running and not any(counted) and not any(named.values()):
            return None
        return super().make_stats(*counted, **named)


class PacedAsyncScheduler(PacedScheduler, AsyncScheduler):  # type: ignore[misc]
    """The same for vLLM's asynchronous scheduler."""


_PACED: dict[type, type] = {Scheduler: PacedScheduler, AsyncScheduler: PacedAsyncScheduler}


def use_paced_scheduler(config: SchedulerConfig) -> None:
    """From here on the engine of this configuration keeps the beat, unless somebody has chosen a scheduler."""
    if config.scheduler_cls is None:
        config.scheduler_cls = _PACED[config.get_scheduler_cls()]
