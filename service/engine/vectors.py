"""From what a model puts out to the vector that crosses the queue."""

from __future__ import annotations

import math
import struct

from ..errors import BadRequest


def packed_unit_vector(vector: list[float], dimensions: int) -> bytes:
    """`vector` scaled to length 1, as little-endian float32.

    Where 0 < `dimensions` < its length, of its first numbers alone. A vector of zeros stays as it is. Raises BadRequest
    for what holds no numbers, in the words of Ollama's `server/routes.go`.
    """
    if not math.isfinite(math.hypot(*vector)):
        raise BadRequest("embedding contains NaN or Inf values")
    if dimensions > 0:
        vector = vector[:dimensions]
    length = math.hypot(*vector) or 1.0
    return struct.pack(f"<{len(vector)}f", *(number / length for number in vector))
