"""Finds stop strings in a text that comes in pieces."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class StopResult(NamedTuple):
    """The text that is safe to send, and the stop string that ended it; empty when none did."""

    text: str
    stop: str = ""


class StopStrings:
    """Searches one text for stop strings, and holds back an end that may be the beginning of one.

    The stop string that is complete first wins, as in vLLM (`check_stop_strings`); between two that are complete at
    the same place, the earlier one in the list. `include`: the text ends behind the stop string instead of before it.

    A client chooses stop strings and text. So each character is looked at once for each stop string that the text may
    be in the middle of, and no piece of the text is searched again (Knuth, Morris, Pratt).
    """

    def __init__(self, stops: list[str], include: bool = False) -> None:
        self._stops = list(dict.fromkeys(stop for stop in stops if stop))
        self._include = include
        self._held = ""
        # By the place of a stop string: how many of its characters are the end of the text.
        self._begun: dict[int, int] = {}
        self._by_first: dict[str, list[int]] = {}
        for place, stop in enumerate(self._stops):
            self._by_first.setdefault(stop[0], []).append(place)

    def feed(self, piece: str, active: bool = True) -> StopResult:
        """Return what is safe to send after this piece. Without `active` no stop string counts in the piece."""
        if not self._stops:
            return StopResult(piece)
        text, before = self._held + piece, len(self._held)
        if not active:
            self._held, self._begun = "", {}
            return StopResult(text)
        for count, character in enumerate(piece, before + 1):
            stop = self._take(character)
            if stop:
                self._held, self._begun = "", {}
                return StopResult(text[:count] if self._include else text[: count - len(stop)], stop)
        keep = max(self._begun.values(), default=0)
        self._held = text[len(text) - keep :]
        return StopResult(text[: len(text) - keep])

    def flush(self) -> str:
        """Return what is held back: the text has ended."""
        held, self._held = self._held, ""
        return held

    def _take(self, character: str) -> str:
        """Take the next character. Return the stop string that it completes; empty when there is none."""
        if not self._begun and character not in self._by_first:
            return ""
        begun = {place: _next(self._stops[place], length, character) for place, length in self._begun.items()}
        for place in self._by_first.get(character, ()):
            begun.setdefault(place, 1)
        self._begun = {place: length for place, length in begun.items() if length}
        complete = [place for place, length in begun.items() if length == len(self._stops[place])]
        return self._stops[min(complete)] if complete else ""


def _next(stop: str, length: int, character: str) -> int:
    """Return how many characters of the stop string end the text when `character` follows `length` of them."""
    while length and stop[length] != character:
        length = _borders(stop)[length - 1]
    return length + (stop[length] == character)


@lru_cache(maxsize=256)
def _borders(stop: str) -> tuple[int, ...]:
    """Return for each beginning of the stop string how long a shorter beginning is that it ends with."""
    borders = [0]
    for character in stop[1:]:
        length = borders[-1]
        while length and stop[length] != character:
            length = borders[length - 1]
        borders.append(length + (stop[length] == character))
    return tuple(borders)
