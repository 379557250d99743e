"""The base of every dialect's answer: events of a generation come in, records go out.

It never knows Flask or the bytes of a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from ..errors import BadRequest, ServiceError
from ..protocol.events import Event, Located

# A JSON object: one answer, or one piece of it.
Record = dict[str, Any]


class Answer:
    """One answer in the shape of one route. A subclass decides which records each event becomes.

    A streamed answer and a collected one have the same records: `records` makes them, and `collect` joins those of a
    whole stream. Where it `streams`, a delta of nothing but text can become a PlainText, which `collect` can't join.
    """

    verb: ClassVar[str]
    streams = False

    def __init__(self, model: str) -> None:
        self._model = model

    @property
    def keeps_logprobs(self) -> bool:
        """Whether the last record repeats log probabilities, so that they are all kept where the answer is streamed."""
        return False

    def records(self, batches: Iterable[list[Event]]) -> Iterator[list[Any]]:
        """Yield a batch of records for each batch of events. An empty batch, which is a silence, stays empty.

        A batch whose events have no record (the model has been located) is left out.
        """
        for batch in batches:
            records = self.records_of_all(batch)
            if records or not batch:
                yield records

    def records_of_all(self, events: Iterable[Event]) -> list[Any]:
        """Return the records of several events."""
        return [record for event in events for record in self._records(event)]

    def records_of(self, event: Event) -> list[Any]:
        """Return the records of one event."""
        return list(self._records(event))

    def collect(self, batches: Iterable[list[Any]]) -> Any:
        """Return the one record of an answer that is not streamed: the records of its stream, joined."""
        return self._join([record for batch in batches for record in batch])

    def failure(self, error: ServiceError) -> Any:
        """Return the last record of a stream that fails after its first record."""
        raise NotImplementedError

    def located(self, event: Located) -> None:
        """Check the model before a request is submitted. Raise BadRequest for a model that only embeds."""
        if event.capabilities and "completion" not in event.capabilities:
            raise BadRequest(f'"{self._model}" does not support {self.verb}')

    def _records(self, event: Event) -> Iterable[Any]:
        raise NotImplementedError

    def _join(self, records: list[Any]) -> Any:
        raise NotImplementedError
