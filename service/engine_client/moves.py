"""The part of each answer that the client has, and whether the stream may continue on another engine.

An answer's state is counted in tokens, characters of text, characters of thinking and calls. These four numbers hold
however the deltas were joined on their way.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from ..errors import EngineFailure, ServiceError
from ..protocol.commands import Submit
from ..protocol.events import Delta, Failed, Finished
from ..protocol.request import Request, SoFar

logger = logging.getLogger("vllm_wsgi.queue")

# An engine that exits or is asked to end loses its running requests. Any other failure is an answer.
_DEATH, _DRAIN = "EngineGone", "Drained"
# So many events are counted at once, which costs less than counting each as it comes.
_AT_ONCE = 32
# A stream may be sent this often to an engine that can't be reached: the host notices a death a moment later.
MOST_UNREACHED = 5
_NOTHING = SoFar([])


class MoveCause(str, Enum):
    """The reason why a stream has left an engine, under the name that request log, metrics and traces have for it."""

    DIED = "died"
    DRAINED = "drained"
    UNREACHED = "unreached"


class Move(NamedTuple):
    """One move, at `time_ns`: nanoseconds since the epoch."""

    cause: MoveCause
    time_ns: int


class AnswersSoFar(Protocol):
    """The answers of a stream, numbered by the `index` of their events."""

    def add(self, event: Delta | Finished) -> None:
        """Add the next event. Only its `id` may be changed afterwards."""
        ...

    def so_far(self, index: int) -> SoFar:
        """Return what has come of an answer."""
        ...

    def has_ended(self, index: int) -> bool: ...


@dataclass
class _Counts:
    token_ids: list[int] = field(default_factory=list)
    text: int = 0
    thinking: int = 0
    calls: int = 0
    ended: bool = False


class CountedAnswers:
    """The answers of a stream that nobody comes back to: their tokens and lengths, without their texts."""

    def __init__(self) -> None:
        self._counts: dict[int, _Counts] = {}
        # The newest events, which are not counted yet.
        self._newest: list[Delta | Finished] = []

    def add(self, event: Delta | Finished) -> None:
        """Add the next event. Only its `id` may be changed afterwards."""
        self._newest.append(event)
        if len(self._newest) >= _AT_ONCE:
            self._count()

    def so_far(self, index: int) -> SoFar:
        """Return what has come of an answer."""
        counts = self._of(index)
        return SoFar(counts.token_ids[:], counts.text, counts.thinking, counts.calls)

    def has_ended(self, index: int) -> bool:
        return self._of(index).ended

    def _of(self, index: int) -> _Counts:
        self._count()
        return self._counts.setdefault(index, _Counts())

    def _count(self) -> None:
        newest, self._newest = self._newest, []
        for event in newest:
            counts = self._counts.get(event.index)
            if counts is None:
                counts = self._counts[event.index] = _Counts()
            if type(event) is Delta:
                counts.token_ids += event.token_ids
                counts.text += len(event.text)
                counts.thinking += len(event.thinking)
                counts.calls += len(event.tool_calls)
            else:
                counts.ended = True


@dataclass
class AnswerSoFar:
    """One answer: the id of its request's first Submit, the request, and the part that the client has."""

    submit: int
    request: Request
    so_far: SoFar = _NOTHING

    def rest(self) -> Request:
        """Return the request for the rest of this one answer."""
        has_begun = self.so_far.token_ids or self.so_far.text
        return msgspec.structs.replace(self.request, n=1, so_far=self.so_far if has_begun else None)


class Moves:
    """The answers to a stream's requests, and how often their engine has died. `limit` 0: a stream never moves."""

    def __init__(self, submits: list[Submit], limit: int, answers: AnswersSoFar | None = None) -> None:
        self._limit = limit
        self._deaths = self._unreached = 0
        self._tokens_at_crash = -1
        self.made: list[Move] = []
        self.lost: list[str] = []
        self._so_far = answers or CountedAnswers()
        # Adds an event that the client gets; `event.index` counts through all answers of the stream.
        self.add = self._so_far.add
        self._answers = [
            AnswerSoFar(submit.id, _seeded(submit.request, index))
            for submit in submits
            for index in range(submit.request.n)
        ]

    def left(self) -> list[tuple[int, AnswerSoFar]]:
        """Return the answers that have not ended, with their index in the stream."""
        left = [(index, each) for index, each in enumerate(self._answers) if not self._so_far.has_ended(index)]
        for index, answer in left:
            answer.so_far = self._so_far.so_far(index)
        return left

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
        tokens = sum(len(self._so_far.so_far(index).token_ids) for index in range(len(self._answers)))
        before, self._tokens_at_crash = self._tokens_at_crash, tokens
        return tokens == before

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
