"""The kept streams of an engine worker by id and by owner, and about how many bytes they hold.

A stream is asked for its size when it has grown by COUNTED_BYTES and when it ends, so that a new stream costs the same
however many there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from .kept_stream import KeptStream


class Shelf:
    """Every kept stream, the oldest first. Where a method takes an owner, None stands for all owners together."""

    def __init__(self) -> None:
        self._all: dict[str, KeptStream] = {}
        self._of: defaultdict[str, dict[str, KeptStream]] = defaultdict(dict)
        self._held: Counter[str] = Counter()
        self._total = 0
        # By the id of the stream: the bytes that it adds to the sums.
        self._counted: dict[str, int] = {}

    def put(self, stream: KeptStream) -> None:
        """Add a stream. One with the same id must have been removed."""
        self._all[stream.keep.stream] = self._of[stream.keep.owner][stream.keep.stream] = stream
        self.count(stream)

    def remove(self, id: str) -> KeptStream | None:
        """Take out the stream with this id, and return it."""
        stream = self._all.pop(id, None)
        if stream is not None:
            owner = stream.keep.owner
            self._add(owner, -self._counted.pop(id))
            del self._of[owner][id]
            if not self._of[owner]:
                del self._of[owner], self._held[owner]
        return stream

    def get(self, id: str) -> KeptStream | None:
        return self._all.get(id)

    def has(self, stream: KeptStream) -> bool:
        """Return whether this very stream is here."""
        return self._all.get(stream.keep.stream) is stream

    def streams(self, owner: str | None = None) -> list[KeptStream]:
        return list((self._all if owner is None else self._of.get(owner, {})).values())

    def number(self, owner: str | None) -> int:
        """Return how many streams there are."""
        return len(self._all if owner is None else self._of.get(owner, ()))

    def bytes(self, owner: str | None) -> int:
        """Return about how many bytes the streams hold."""
        return self._total if owner is None else self._held[owner]

    def count(self, stream: KeptStream) -> None:
        """Ask a stream for its size."""
        if self.has(stream):
            keep, size = stream.keep, stream.bytes
            self._add(keep.owner, size - self._counted.get(keep.stream, 0))
            self._counted[keep.stream] = size

    def _add(self, owner: str, size: int) -> None:
        self._held[owner] += size
        self._total += size
