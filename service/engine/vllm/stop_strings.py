"""Finds stop strings in a text that comes in pieces."""

from __future__ import annotations

from typing import NamedTuple


class StopResult(NamedTuple):
    """The text that is safe to send, and the stop string that ended it; empty when none did."""

    text: str
    stop: str = ""


class StopStrings:
    """Searches one text for stop strings, and holds back an end that may be the beginning of one.

    The stop string that is complete first wins, as in vLLM (`check_stop_strings`); between two that are complete at
    the same place, the earlier one in the list. `include`: the text ends behind the stop string instead of before it.
    """

    def __init__(self, stops: list[str], include: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._include = include
        self._held = ""

    def feed(self, piece: str, active: bool = True) -> StopResult:
        """Return what is safe to send after this piece. Without `active` no stop string counts in the piece."""
        if not self._stops:
            return StopResult(piece)
        if not active:
            text, self._held = self._held + piece, ""
            return StopResult(text)
        text = self._held + piece
        found = self._first(text)
        if found is not None:
            stop, end = found
            self._held = ""
            return StopResult(text[:end] if self._include else text[: end - len(stop)], stop)
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return StopResult(text[: len(text) - keep])

    def flush(self) -> str:
        """Return what is held back: the text has ended."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[str, int] | None:
        """The stop string that is complete first, and where it ends."""
        ends = [(start + len(stop), stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not ends:
            return None
        end, stop = min(ends, key=lambda found: found[0])
        return stop, end


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of the text are the beginning of the stop string, but not all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
