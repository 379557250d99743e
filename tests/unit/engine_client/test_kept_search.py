"""How long a stream that no engine keeps is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from service.engine_client import kept_search
from service.engine_client.connections import Connections
from service.engine_client.disconnect import Presence
from service.engine_client.exchange import Times
from service.engine_client.kept_search import AWAY_SECONDS, OPEN_SECONDS, AttachedStream, KeptSearch
from service.errors import EngineGone, ResponseNotFound
from service.protocol.commands import Command
from service.protocol.events import Event, Failed, Head
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


class Ending(AttachedStream):
    """A stream of an engine worker that ends: it sends the stream's head and its own end, and is then gone."""

    def __init__(self) -> None:
        super().__init__(Connections("/nowhere"), Times(10.0), Presence(), "s" * 32, "", 0.0)
        self.now = 0.0
        self.follows: list[bool] = []

    def monotonic(self) -> float:
        return self.now

    def everywhere(self, command: Callable[[int], Command]) -> Iterator[Event]:
        asked = command(1)
        assert isinstance(asked, Attach)
        self.follows.append(asked.follow)
        self._arrived = [Failed(1, "Drained", "the engine is going down")]
        yield Head(1, b"", 1, 0, 0, True, "running") if len(self.follows) == 1 else Failed(1, "EngineGone", "gone")

    def _pause(self, seconds: float) -> None:
        self.now += 0.5


def test_a_client_that_asks_how_far_a_stream_is_does_not_wait_for_its_next_engine(monkeypatch: pytest.MonkeyPatch):
    stream = Ending()
    monkeypatch.setattr(kept_search, "time", stream)
    stream.open(follow=False)
    with pytest.raises(EngineGone, match="on its way"):
        list(stream.batches())
    assert OPEN_SECONDS < stream.now <= OPEN_SECONDS + 1.5
    assert set(stream.follows) == {False}
