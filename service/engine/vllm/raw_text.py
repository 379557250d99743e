"""Accounts for an answer's raw text: which part of it a parser has passed on, and which it has swallowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Envelope(NamedTuple):
    """The marks around a tool call, or around a group of them."""

    begin: str
    end: str


class RawText:
    """The raw text of an answer that is not accounted for yet.

    Each piece that the parser passes on is found again in it. The text before the piece has been swallowed: marks,
    white space, or a call. `marks` are texts that the parser swallows: a piece is not looked for in those that come
    first, since "n" also stands in "</think>".
    """

    def __init__(self, marks: Iterable[str] = ()) -> None:
        self._text = ""
        self._opening = re.compile("|".join(rf"\s*{re.escape(mark)}" for mark in marks))

    def add(self, text: str) -> None:
        self._text += text

    def pass_on(self, piece: str, behind_call: bool) -> str | None:
        """Account for a piece that the parser has passed on. Return what was swallowed before it.

        `behind_call`: a call precedes the piece, so that its first occurrence may be a part of the call. None when
        the piece is not in the raw text: this parser rewrites what it passes on.
        """
        if piece == self._text:
            # So are most: text is passed on as it comes.
            self._text = ""
            return ""
        start = self._text.rfind(piece) if behind_call else self._text.find(piece, self._behind_marks())
        if start < 0:
            # The parser has passed on a mark.
            start = self._text.find(piece)
        if start < 0:
            return None
        swallowed, self._text = self._text[:start], self._text[start + len(piece) :]
        return swallowed

    def _behind_marks(self) -> int:
        """Return where the marks end that come first."""
        end = 0
        while (found := self._opening.match(self._text, end)) is not None and found.end() > end:
            end = found.end()
        return end

    def take_call(self, envelope: Envelope) -> str | None:
        """Take a complete call with its marks, and what stands before it. None while there is no complete call."""
        begin = self._text.find(envelope.begin)
        if begin < 0:
            return None
        end = self._text.find(envelope.end, begin + len(envelope.begin))
        if end < 0:
            return None
        end += len(envelope.end)
        call, self._text = self._text[:end], self._text[end:]
        return call

    def take_rest(self) -> str:
        """Take all that is left."""
        rest, self._text = self._text, ""
        return rest


def without_marks(text: str, marks: list[str]) -> str:
    """Return the text without the marks; empty when only white space is left of it."""
    for mark in marks:
        text = text.replace(mark, "")
    return text if text.strip() else ""
