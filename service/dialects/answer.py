"""From the events of a generation to the records of an answer, whatever the dialect. Knows no bytes and no Flask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from ..errors import BadRequest, ServiceError
from ..protocol.events import Event, Located

# What JSON holds of one answer or of one piece of it.
Record = dict[str, Any]


class Answer:
    """One answer in the shape of one route; a subclass says what each event becomes.

    Streamed or not, the records are the same: `records` makes them, `collect` puts those of a whole stream together.
    """

    verb: ClassVar[str]

    def __init__(self, model: str) -> None:
        self._model = model

    def records(self, batches: Iterable[list[Event]]) -> Iterator[list[Any]]:
        """A batch of records for each batch of events; an empty batch stays empty.

        A batch that holds nothing to tell (the model has been found) is left out.
        """
        for batch in batches:
            records = [record for event in batch for record in self._records(event)]
            if records or not batch:
                yield records

    def collect(self, batches: Iterable[list[Any]]) -> Any:
        """The one record of an answer that is not streamed: its stream's records, put together."""
        return self._join([record for batch in batches for record in batch])

    def failure(self, error: ServiceError) -> Any:
        """The last record of a stream that fails after its first."""
        raise NotImplementedError

    def located(self, event: Located) -> None:
        """Before anything is asked of the model; raises BadRequest for one that only embeds."""
        if event.capabilities and "completion" not in event.capabilities:
            raise BadRequest(f'"{self._model}" does not support {self.verb}')

    def _records(self, event: Event) -> Iterable[Any]:
        raise NotImplementedError

    def _join(self, records: list[Any]) -> Any:
        raise NotImplementedError
