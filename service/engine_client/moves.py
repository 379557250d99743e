"""The part of each answer that the client has, and whether the stream may continue on another engine.

An answer's state is counted in tokens, characters of text, characters of thinking and calls. These four numbers hold
however the deltas were joined on their way.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import msgspec

from ..errors import EngineFailure, ServiceError
from ..protocol.commands import Submit
from ..protocol.events import Delta, Failed, Finished
from ..protocol.request import Request, SoFar

logger = logging.getLogger("vllm_wsgi.queue")

# An engine that exits or is asked to end loses its running requests. Any other failure is an answer.
_DEATH, _DRAIN = "EngineGone", "Drained"
# A stream may be sent this often to an engine that can't be reached: the host notices a death a moment later.
MOST_UNREACHED = 5


class MoveCause(str, Enum):
    """The reason why a stream has left an engine, under the name that request log, metrics and traces have for it."""

    DIED = "died"
    DRAINED = "drained"
    UNREACHED = "unreached"


class Move(NamedTuple):
    """One move, at `time_ns`: nanoseconds since the epoch."""

    cause: MoveCause
    time_ns: int


@dataclass
class AnswerSoFar:
    """One answer: the id of its request's first Submit, and the part that the client has."""

    submit: int
    request: Request
    token_ids: list[int] = field(default_factory=list)
    text: int = 0
    thinking: int = 0
    calls: int = 0
    has_echo: bool = False
    ended: bool = False

    def add(self, delta: Delta) -> None:
        self.token_ids += delta.token_ids
        self.text += len(delta.text)
        self.thinking += len(delta.thinking)
        self.calls += len(delta.tool_calls)

    @property
    def has_begun(self) -> bool:
        return bool(self.token_ids or self.text)

    def rest(self) -> Request:
        """Return the request for the rest of this one answer."""
        so_far = SoFar(self.token_ids[:], self.text, self.thinking, self.calls) if self.has_begun else None
        return msgspec.structs.replace(self.request, n=1, so_far=so_far)


class Moves:
    """The answers to a stream's requests, and how often their engine has died. `limit` 0: a stream never moves."""

    def __init__(self, submits: list[Submit], limit: int) -> None:
        self._limit = limit
        self._deaths = self._unreached = 0
        self._tokens_at_crash = -1
        self.made: list[Move] = []
        self.lost: list[str] = []
        self._answers = [
            AnswerSoFar(submit.id, _seeded(submit.request, index))
            for submit in submits
            for index in range(submit.request.n)
        ]

    def add(self, event: Delta | Finished) -> None:
        """Add an event that the client gets; `event.index` counts through all answers of the stream."""
        answer = self._answers[event.index]
        if isinstance(event, Delta):
            answer.add(event)
        else:
            answer.ended = True

    def left(self) -> list[tuple[int, AnswerSoFar]]:
        """Return the answers that have not ended, with their index in the stream."""
        return [(index, answer) for index, answer in enumerate(self._answers) if not answer.ended]

    def begin(self, failed: Failed, socket: str, reached: bool = True) -> None:
        """Note that the engine at `socket` was lost. Raises the failure where the stream may not continue elsewhere.

        A request that was running at two crashes without a token in between is taken for their cause. An engine that
        was killed did not crash, and one that was not `reached` has not run the request.
        """
        if not self._limit or failed.kind not in (_DEATH, _DRAIN):
            raise failed.error()
        cause = MoveCause.DRAINED if failed.kind == _DRAIN else MoveCause.DIED if reached else MoveCause.UNREACHED
        if cause is MoveCause.UNREACHED:
            self._unreached += 1
            if self._unreached > MOST_UNREACHED:
                raise failed.error()
        if cause is MoveCause.DIED:
            self._deaths += 1
            if self._deaths > self._limit or (failed.details.get("crashed") and self._crashed_again()):
                raise self._cause(failed)
        self.made.append(Move(cause, time.time_ns()))
        self.lost.append(socket)

    def _crashed_again(self) -> bool:
        """Note a crash. Return whether no token has come since the one before."""
        before, self._tokens_at_crash = self._tokens_at_crash, sum(len(answer.token_ids) for answer in self._answers)
        return self._tokens_at_crash == before

    def _cause(self, failed: Failed) -> ServiceError:
        if self._deaths < 2:
            return failed.error()
        name = self._answers[0].request.request_id
        logger.error("request %s is given up: its engine died %d times while it ran", name, self._deaths)
        return EngineFailure(f"the engine died {self._deaths} times while it ran this request: {failed.message}")


def _seeded(request: Request, index: int) -> Request:
    """Return the request of one of `n` answers; vLLM gives each its own seed (`v1/engine/parallel_sampling.py`)."""
    seed = request.sampling.seed
    if request.n == 1 or seed is None:
        return request
    return msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, seed=seed + index))
