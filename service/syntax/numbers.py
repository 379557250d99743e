"""Numbers as Go's JSON decoder takes them."""

from __future__ import annotations

import math
from typing import Any

# The queue carries no integers beyond these.
INT64 = range(-(2**63), 2**63)


def as_number(value: Any) -> int | float | None:
    """Return a JSON number as it is, and None for anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_integer(value: Any) -> int | None:
    """Return an int, or a float without a fraction as an int, and None for anything else.

    Home Assistant sends num_ctx as a float.
    """
    if as_number(value) is None:
        return None
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return None
    return int(value) if int(value) in INT64 else None


def as_integers(values: list[Any]) -> list[int | None]:
    """Return `as_integer` of each value, up to the first None.

    Hundreds of thousands of token ids are checked at once.
    """
    if set(map(type, values)) == {int} and min(values) in INT64 and max(values) in INT64:
        return list(values)
    integers: list[int | None] = []
    for value in values:
        integers.append(as_integer(value))
        if integers[-1] is None:
            break
    return integers
