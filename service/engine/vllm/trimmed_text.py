"""Strips the white space around a text that comes in pieces."""

from __future__ import annotations


class TrimmedText:
    """Strips white space as Ollama's `thinking/parser.go` does: before the text, and unless `keeps_tail` behind it."""

    def __init__(self, keeps_tail: bool = False) -> None:
        self._keeps_tail = keeps_tail
        self._begun = False
        self._space = ""

    def feed(self, piece: str) -> str:
        """Return what is known to belong to the text after this piece."""
        piece = self._space + piece
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        end = len(piece) if self._keeps_tail else len(piece.rstrip())
        self._space = piece[end:]
        return piece[:end]
