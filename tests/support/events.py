"""A reader of `/api/events`, which fails when what it waits for can't come any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

# Longer than the server is ever silent.
SILENT_SECONDS = 15.0


class ServerEvent(NamedTuple):
    """One event as it came; `id` is empty where it has none."""

    name: str
    id: str
    data: dict[str, Any]


class EventReader:
    """Reads one response. `comments` and `retry` are what came beside the events so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self.retry = ""
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[ServerEvent]:
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(value)
            elif name == "retry":
                self.retry = value
            elif line:
                assert name in ("id", "event", "data"), line
                fields[name] = value
            elif fields:
                yield ServerEvent(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                fields = {}

    def next(self, name: str, wanted: Callable[[dict[str, Any]], Any] = lambda data: True) -> ServerEvent:
        """The next event of this name that is wanted; fails when the stream ends or falls silent before."""
        for event in self:
            if event.name == name and wanted(event.data):
                return event
        raise AssertionError(f"the stream ended before such a {name} came")

    def state(self, state: str) -> dict[str, Any]:
        """The entry of the first model in the next snapshot in which it is in this state."""
        snapshot = self.next("snapshot", lambda data: data["models"] and data["models"][0]["state"] == state)
        return dict(snapshot.data["models"][0])


@contextmanager
def events(url: str, query: str = "", headers: Mapping[str, str] | None = None) -> Iterator[EventReader]:
    """Read the events of the server at `url`."""
    with httpx.stream("GET", f"{url}/api/events{query}", headers=headers, timeout=SILENT_SECONDS) as response:
        yield EventReader(response)
