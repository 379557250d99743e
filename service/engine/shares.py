"""How many places one caller may take while others may come: in front of vLLM, and in vLLM's scheduler.

In: how many places a caller has, and how many are free. Out: how many more it may take.
It never knows what a place is.
"""

from __future__ import annotations

# A caller may have this many times as many places as it leaves free.
TIMES = 7


def room(places: int, free: int) -> int:
    """Return how many places a caller that has `places` may take of those that are `free`.

    It leaves an eighth free where it is alone. The more callers there are, the fewer each may have: the next one always
    finds something. A caller without a place may take one.
    """
    return max(0 if places else min(1, free), (TIMES * free - places) // (TIMES + 1))
