"""Numbers as Go's JSON decoder takes them."""

from __future__ import annotations

import math
from typing import Any

# Beyond these a number is no int64 and can't cross the queue.
INT64 = range(-(2**63), 2**63)


def as_number(value: Any) -> int | float | None:
    """What JSON calls a number; None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_integer(value: Any) -> int | None:
    """An int, or a float without a fraction, as Home Assistant sends for num_ctx; None for anything else."""
    if as_number(value) is None:
        return None
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return None
    return int(value) if int(value) in INT64 else None
