"""The answer to a request that only counts the tokens of its prompt, as Anthropic and OpenAI have it."""

from __future__ import annotations

from typing import Any

from ..protocol.events import Event, Located, Rendered
from .answer import Answer, Record


class CountAnswer(Answer):
    """The one record of a prompt whose tokens are counted. `fields` stand before their number."""

    verb = "chat"

    def __init__(self, model: str, **fields: Any) -> None:
        super().__init__(model)
        self._fields = fields

    def _records(self, event: Event) -> list[Record]:
        if isinstance(event, Located):
            self.located(event)
        return [{**self._fields, "input_tokens": event.tokens}] if isinstance(event, Rendered) else []

    def _join(self, records: list[Record]) -> Record:
        return records[-1]
