"""Turn vectors of little-endian float32, as the queue carries them, into the numbers that JSON shows."""

from __future__ import annotations

import struct
import time
from array import array


def widened(vector: bytes) -> list[float]:
    """Return the exact numbers. As doubles they print with up to 17 digits."""
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def shortest(vector: bytes) -> list[float]:
    """Return, for each number, the double with the fewest digits that is the same float32.

    Go prints a float32 so. Seven or eight digits are enough for most numbers, and nine for all.
    """
    numbers = widened(vector)
    seven = [float(f"{number:.7g}") for number in numbers]
    eight = [float(f"{number:.8g}") for number in numbers]
    candidates = zip(numbers, seven, array("f", seven), eight, array("f", eight))
    # A thousand numbers take a millisecond. Under gevent, this lets the worker's other streams run in between.
    time.sleep(0)
    return [
        short if short32 == number else longer if longer32 == number else float(f"{number:.9g}")
        for number, short, short32, longer, longer32 in candidates
    ]
