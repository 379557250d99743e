"""How long a stream that no engine keeps is looked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.engine_client import kept_search
from service.engine_client.connections import Connections
from service.engine_client.disconnect import Presence
from service.engine_client.exchange import Times
from service.engine_client.kept_search import AWAY_SECONDS, KeptSearch
from service.errors import ResponseNotFound
from service.protocol.events import Event, Failed
from service.protocol.kept import Attach


class Search(KeptSearch):
    """Finds no stream. `well` says for each moment whether all engines are well; its last value stays."""

    def __init__(self, well: list[bool], settles: float | None) -> None:
        super().__init__(Connections("/nowhere"), Times(10.0), Presence(), settles)
        self.now = 0.0
        self._well = well

    def monotonic(self) -> float:
        return self.now

    def everywhere(self, command: object) -> Iterator[Event]:
        yield Failed(0, "ResponseNotFound", "stream not found")

    def _is_settled(self) -> bool:
        return self._well.pop(0) if len(self._well) > 1 else self._well[0]

    def _pause(self, seconds: float) -> None:
        self.now += 0.5


def seconds_of(search: Search, monkeypatch: pytest.MonkeyPatch) -> float:
    """How long it looks for the stream."""
    monkeypatch.setattr(kept_search, "time", search)
    with pytest.raises(ResponseNotFound):
        list(search.search(lambda id: Attach(id, "s" * 43, "")))
    search.close()
    return search.now


def test_a_stream_is_looked_for_until_all_engines_have_been_well_for_a_while(monkeypatch: pytest.MonkeyPatch):
    assert seconds_of(Search([True], 1.0), monkeypatch) == 1.0
    # Its engine worker has been restarted, and its web worker needs a moment to send it there.
    assert seconds_of(Search([False] * 10 + [True], 1.0), monkeypatch) == 6.0
    assert seconds_of(Search([True, True, False, True], 1.0), monkeypatch) == 2.5


def test_a_stream_is_not_looked_for_without_end(monkeypatch: pytest.MonkeyPatch):
    assert AWAY_SECONDS < seconds_of(Search([False], 1.0), monkeypatch) <= AWAY_SECONDS + 0.5


def test_a_stream_of_another_key_is_looked_for_once(monkeypatch: pytest.MonkeyPatch):
    assert seconds_of(Search([False], None), monkeypatch) == 0.0
