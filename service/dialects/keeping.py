"""Read the fields with which a client asks for a stream that outlives its connection. Every dialect has them."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadRequest
from ..syntax.numbers import as_number
from .fields import Fields


@dataclass(frozen=True)
class Keeping:
    """A stream that is kept for `seconds` without a reader, as long as the server keeps any when 0.

    One in the `background` is generated without a reader.
    """

    seconds: float = 0.0
    background: bool = False


def parse_keeping(fields: Fields) -> Keeping | None:
    """Return what `resumable` and `background` ask for, None if neither is set. Raise BadRequest."""
    resumable, background = fields.get("resumable"), fields.boolean("background", False)
    if resumable is None or isinstance(resumable, bool):
        return Keeping(background=background) if resumable or background else None
    seconds = as_number(resumable)
    if seconds is None or not 0 < seconds < float("inf"):
        raise BadRequest("resumable must be true, false or a positive number of seconds", param="resumable")
    return Keeping(seconds, background)
