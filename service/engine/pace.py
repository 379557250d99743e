"""How often the tokens of many streams leave: together, on a beat that slows down as streams are added.

A token costs its share of what vLLM does with each output, of a wake-up, a message and a write, and all of these are
the same for two tokens. So while many streams run, what the engine's core brings is held back and joined until the
beat, before anything else is done with it. A stream's first token and its end are never held back, and with few streams
nothing is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from operator import attrgetter, is_

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

# So many streams cost little enough one token at a time.
FREE_STREAMS = 8
STREAM_SECONDS = 0.0006
# An answer in pieces twelve times a second still flows.
LONGEST_SECONDS = 0.08
# So long after the beat the next step is waited for, so that most beats come with one.
STEP_SECONDS = 0.01

_beside_tokens = attrgetter(*EngineCoreOutput.__struct_fields__[2:])
_NOTHING = _beside_tokens(EngineCoreOutput("", []))


def beat_seconds(streams: int) -> float:
    """From one beat to the next; 0: there is none."""
    return min(LONGEST_SECONDS, max(0, streams - FREE_STREAMS) * STREAM_SECONDS)


class Pace:
    """The decode steps of one AsyncLLM as its output handler is to see them; `step` awaits the core's next one.

    Every step comes through at once, with its statistics, but only with those of its outputs that are urgent.
    """

    def __init__(self, step: Callable[[], Awaitable[EngineCoreOutputs]]) -> None:
        self._step = step
        # By engine, since vLLM counts by engine.
        self._holds: dict[int, _Hold] = {}

    async def outputs(self) -> EngineCoreOutputs:
        """In place of `AsyncMPClient.get_output_async`; raises what that raises."""
        late = min([hold.due + STEP_SECONDS for hold in self._holds.values() if hold.outputs], default=None)
        try:
            async with asyncio.timeout(late and late - time.monotonic()):
                step = await self._step()
        except TimeoutError:
            # A step takes long, that of a long prompt perhaps.
            return min([hold for hold in self._holds.values() if hold.outputs], key=attrgetter("due")).released()
        hold = self._holds.get(step.engine_index)
        if hold is None:
            hold = self._holds[step.engine_index] = _Hold()
        return hold.passed(step)


class _Hold:
    """What one engine has brought since its last beat, by request."""

    def __init__(self) -> None:
        self.outputs: dict[str, list[EngineCoreOutput]] = {}
        self.due = 0.0
        self._last = EngineCoreOutputs()

    def passed(self, step: EngineCoreOutputs) -> EngineCoreOutputs:
        """The step with what is to leave now."""
        self._last = step
        now, seconds = time.monotonic(), beat_seconds(len(step.outputs))
        if now < self.due and seconds:
            step.outputs = self._urgent(step.outputs)
            return step
        self.due = now + seconds
        if self.outputs:
            for output in step.outputs:
                self._add(output)
            step.outputs = self._all()
        return step

    def released(self) -> EngineCoreOutputs:
        """Everything, as of the last step; the next one is a beat."""
        self.due = 0.0
        last = self._last
        return EngineCoreOutputs(
            last.engine_index, self._all(), None, last.timestamp, weight_version=last.weight_version
        )

    def _urgent(self, outputs: list[EngineCoreOutput]) -> list[EngineCoreOutput]:
        """What must not wait, and what has been held back of the same requests."""
        urgent: list[EngineCoreOutput] = []
        for output in outputs:
            self._add(output)
            if output.prefill_stats is not None or output.finish_reason is not None:
                urgent += self.outputs.pop(output.request_id)
        return urgent

    def _all(self) -> list[EngineCoreOutput]:
        held, self.outputs = self.outputs, {}
        return [output for outputs in held.values() for output in outputs]

    def _add(self, output: EngineCoreOutput) -> None:
        """Two outputs of one request become one where both have tokens and nothing else."""
        held = self.outputs.setdefault(output.request_id, [])
        if held and _only_tokens(output) and _only_tokens(held[-1]):
            held[-1].new_token_ids += output.new_token_ids
        else:
            held.append(output)


def _only_tokens(output: EngineCoreOutput) -> bool:
    return all(map(is_, _beside_tokens(output), _NOTHING))
