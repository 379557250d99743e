"""Garbage collection in a process that serves: it looks at young objects only, and rarely."""

from __future__ import annotations

import gc

# So many more objects than before begin a collection. Python's own number is 700 to 2,000, and one decode step of many
# streams makes more, so that a collection for each step took a tenth of the time of a token.
YOUNG_OBJECTS = 10_000


def settle() -> None:
    """Keep everything that there is now out of collections. Call it once, before the first request.

    vLLM's own server does it too: a collection that looked through all that was imported held up every stream.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
