"""Turn the vector that a model returns into the bytes that cross the queue."""

from __future__ import annotations

import math
import struct

from ..errors import BadRequest


def packed_unit_vector(vector: list[float], dimensions: int) -> bytes:
    """Return `vector` scaled to length 1, as little-endian float32.

    Where 0 < `dimensions` < its length, only its first `dimensions` numbers are kept. A vector of zeros stays as it is.
    Raises BadRequest for a vector with NaN or infinity, in the words of Ollama's `server/routes.go`.
    """
    if not math.isfinite(math.hypot(*vector)):
        raise BadRequest("embedding contains NaN or Inf values")
    if dimensions > 0:
        vector = vector[:dimensions]
    length = math.hypot(*vector) or 1.0
    return struct.pack(f"<{len(vector)}f", *(number / length for number in vector))
