"""A record that differs from the ones before it only in a few texts. Most tokens become such a record.

In: a record with HOLE in the place of each text that changes. Out: such a record and its texts, apart.
It never knows the bytes of a record: the framing encodes them, and each shape only once.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

# No text of a client or of a model equals this one.
HOLE = f"hole-{secrets.token_hex(12)}"


class Shape:
    """A record with holes. `encoded` belongs to the framing."""

    __slots__ = ("encoded", "record")

    def __init__(self, record: Any) -> None:
        self.record = record
        self.encoded: Any = None


class PlainText(NamedTuple):
    """A record: its shape, and the texts for the holes in the order in which they are encoded."""

    shape: Shape
    texts: tuple[str, ...]
