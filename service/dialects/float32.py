"""Vectors of little-endian float32, as the queue carries them, to the numbers that JSON shows."""

from __future__ import annotations

import struct
import time
from array import array


def widened(vector: bytes) -> list[float]:
    """The very numbers: as doubles they print up to 17 digits."""
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def shortest(vector: bytes) -> list[float]:
    """For each number the double with the fewest digits that is the same float32: what Go prints for a float32.

    Seven or eight digits do for most numbers, nine for every one.
    """
    numbers = widened(vector)
    seven = [float(f"{number:.7g}") for number in numbers]
    eight = [float(f"{number:.8g}") for number in numbers]
    candidates = zip(numbers, seven, array("f", seven), eight, array("f", eight), strict=True)
    # A thousand numbers take a millisecond, after which, under gevent, the worker's other streams get their turn.
    time.sleep(0)
    return [
        short if short32 == number else longer if longer32 == number else float(f"{number:.9g}")
        for number, short, short32, longer, longer32 in candidates
    ]
