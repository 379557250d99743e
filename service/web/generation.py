"""One answer that the application's own code asks for: an iterator of deltas, and the whole of them.

In: a function that opens the stream. Out: deltas, or a WholeAnswer; a ServiceError when the answer fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Optional

from ..dialects.ollama.answer import OllamaAnswer
from ..drain import refuse_while_draining
from ..engine_client.stream import Stream
from ..errors import EngineFailure, ServiceError
from ..protocol.events import Delta, Event, Finished, Located, TokenLogprob
from ..telemetry.request_stats import RequestStats


@dataclass(frozen=True)
class WholeAnswer:
    """All deltas of an answer, joined. `finished` has the reason for its end, token counts, and nanoseconds."""

    text: str
    thinking: str
    tool_calls: list[dict[str, Any]]
    logprobs: list[TokenLogprob]
    finished: Finished


class Generation(Iterator[Delta]):
    """One answer, as an iterator of its deltas. Nothing is sent to the engine before the first one is asked for.

    `close` cancels the generation, as does the end of a `with` block, or of the last reference. `finished` is set after
    the last delta. Iterating raises a ServiceError when the request is refused or fails. One thread at a time may use
    it.
    """

    def __init__(self, batches: Generator[list[Event], None, None], answer: OllamaAnswer, request_id: str) -> None:
        self.request_id = request_id
        self.finished: Optional[Finished] = None
        self._batches = batches
        self._answer = answer
        self._ready: deque[Delta] = deque()

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> Delta:
        while not self._ready:
            self._take(next(self._batches))
        return self._ready.popleft()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the generation unless it has ended. Idempotent."""
        self._batches.close()
        self._ready.clear()

    def answer(self) -> WholeAnswer:
        """Wait for the end, and return what has not been iterated yet. Raises ServiceError."""
        deltas = list(self)
        if self.finished is None:
            raise EngineFailure("the generation was closed before its end")
        return WholeAnswer(
            text="".join(delta.text for delta in deltas),
            thinking="".join(delta.thinking for delta in deltas),
            tool_calls=[call for delta in deltas for call in delta.tool_calls],
            logprobs=[token for delta in deltas for token in delta.logprobs],
            finished=self.finished,
        )

    def with_heartbeats(self) -> Generator[Optional[Delta], None, None]:
        """Yield the deltas, and None after each VLLM_WSGI_HEARTBEAT seconds without one, for `stream_response`."""
        try:
            while True:
                yield from self._drained()
                batch = next(self._batches, None)
                if batch is None:
                    return
                self._take(batch)
                if not batch:
                    yield None
        finally:
            self.close()

    def records(self) -> Generator[list[Any], None, None]:
        """Yield batches of the records that Ollama's route streams for this answer; an empty batch is a heartbeat."""
        try:
            yield from self._answer.records(self._events())
        finally:
            self.close()

    def failure(self, error: ServiceError) -> dict[str, Any]:
        """Return the last record of a stream that fails."""
        record: dict[str, Any] = self._answer.failure(error)
        return {**record, "request_id": self.request_id}

    def _events(self) -> Iterator[list[Event]]:
        if self._ready:
            yield list(self._drained())
        for batch in self._batches:
            self._note(batch)
            yield batch

    def _drained(self) -> Iterator[Delta]:
        while self._ready:
            yield self._ready.popleft()

    def _take(self, batch: list[Event]) -> None:
        self._note(batch)
        self._ready.extend(event for event in batch if isinstance(event, Delta))

    def _note(self, batch: list[Event]) -> None:
        for event in batch:
            if isinstance(event, Finished):
                self.finished = event


def counted(
    open_stream: Callable[[], Stream],
    located: Callable[[Located], None],
    stats: RequestStats,
    end: Callable[[RequestStats], None],
) -> Generator[list[Event], None, None]:
    """Yield a stream's batches; count them in `stats`, and call `end` once when they end, fail or are closed.

    Raises GoingDown before anything is sent when this process shuts down, the ServiceErrors of the stream, and those
    of `located`. It holds no reference to a Generation, so that a Generation without references is closed at once.
    """
    stats.streams()
    try:
        refuse_while_draining()
        stream = stats.stream = open_stream()
        try:
            for batch in stats.count(stream.batches()):
                for event in batch:
                    if isinstance(event, Located):
                        located(event)
                yield batch
        finally:
            stream.close()
    except ServiceError as error:
        stats.failed(error)
        raise
    finally:
        end(stats)
