"""vLLM's scheduler, in which callers take turns. It continues moved answers, and keeps the steps of a CPU short.

The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.config import SchedulerConfig
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import RequestQueue, SchedulingPolicy
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from ..shares import room
from .callers_queue import CallersQueue, caller_of
from .compiling import DroppingGrammars
from .resume import Resuming
from .step_limit import StepLimit
from .whole_thoughts import WholeThoughts


class ShortSteps(Resuming, DroppingGrammars, WholeThoughts, Scheduler):  # type: ignore[misc]
    """The scheduler of one engine. Every output leaves with the step that computed it."""

    max_num_scheduled_tokens: int
    max_num_running_reqs: int
    running: list[Request]
    waiting: RequestQueue

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.policy is SchedulingPolicy.PRIORITY:
            self.waiting = CallersQueue()
        self._most_tokens: int = self.max_num_scheduled_tokens
        self._operators_threshold: int = self.scheduler_config.long_prefill_token_threshold
        self._limit = StepLimit(self._most_tokens) if _can_be_short(self.scheduler_config) else None
        # When each step began that is still computed.
        self._begun: dict[int, float] = {}
        self._callers: set[str] = set()

    def schedule(self, *arguments: Any, **named: Any) -> SchedulerOutput:
        if self._limit is not None:
            self._share(self._limit)
        with self._room_for_others():
            step: SchedulerOutput = super().schedule(*arguments, **named)
        if self._limit is not None:
            self._begun[id(step)] = time.monotonic()
        return step

    @contextmanager
    def _room_for_others(self) -> Iterator[None]:
        """Keep requests back whose callers would leave too little room for others, once there are several callers.

        A request for many answers would else have the whole engine until it ends.
        """
        queue = self.waiting
        if not isinstance(queue, CallersQueue) or not queue:
            yield
            return
        waiting = queue.callers()
        self._callers |= waiting
        if len(self._callers) > 1:
            running = Counter(map(caller_of, self.running))
            free = self.max_num_running_reqs - len(self.running)
            queue.limit({caller: room(running[caller], free) for caller in waiting})
        try:
            yield
        finally:
            queue.limit(None)

    def _share(self, limit: StepLimit) -> None:
        """Set how many tokens the next step has, and how many of them one prompt may have.

        vLLM gives tokens to requests in the order in which they began to run. So answers come before prompts here, and
        while a caller waits that has no prompt among them, each prompt gets a part, and a part is left for that caller.
        """
        self.running.sort(key=_is_prompt)
        waiting = self.waiting.callers() if isinstance(self.waiting, CallersQueue) else set[str]()
        begun = [caller_of(request) for request in self.running if _is_prompt(request)]
        tokens = limit.shared_by(len({*map(caller_of, self.running), *waiting}))
        self.max_num_scheduled_tokens = min(self._most_tokens, len(self.running) + tokens)
        threshold = self._operators_threshold
        if len({*begun, *waiting}) > 1 and not self.need_mamba_block_aligned_split:
            part = max(1, tokens // (len(begun) + len(waiting.difference(begun))))
            threshold = min(threshold, part) if threshold else part
        self.scheduler_config.long_prefill_token_threshold = threshold

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


def _is_prompt(request: Request) -> bool:
    return bool(request.is_prefill_chunk)


def _can_be_short(config: SchedulerConfig) -> bool:
    """Return whether prompts may be computed in pieces of any size, and are computed on a CPU."""
    return bool(current_platform.is_cpu() and config.enable_chunked_prefill and not config.disable_chunked_mm_input)


_OURS: dict[type, type] = {Scheduler: ShortSteps, AsyncScheduler: AsyncShortSteps}


def use_our_scheduler(config: SchedulerConfig) -> None:
    """Give an engine of this configuration our scheduler, unless the operator has chosen one."""
    if config.scheduler_cls is None:
        config.scheduler_cls = _OURS[config.get_scheduler_cls()]
