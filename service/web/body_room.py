"""How many bytes the request bodies take that this process reads at the same time, by key.

In: the bytes of bodies as they come in. Out: nothing, or the refusal of a body for which there is no room.
A client may send thousands of bodies at once, and end none of them. Each would stay in memory until its time is over.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import TooManyRequests, Unavailable

# The bodies of one key may take this part of the room, so that others always find some.
KEY_PART = 2


class BodyRoom:
    """The bytes of all bodies that are being read. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def body_of(self, key: str, most: int) -> Iterator[Callable[[int], None]]:
        """Yield the function that takes room for so many more bytes of one body of a key, up to the context's end.

        All bodies may take `most` bytes, where 0 is no limit. The function raises TooManyRequests where those of the
        key take too much, and Unavailable where those of all do.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            with self._lock:
                self._check(key, size, most)
                self._held[key] += size
            taken += size

        try:
            yield take
        finally:
            with self._lock:
                self._held[key] -= taken
                if not self._held[key]:
                    del self._held[key]

    def _check(self, key: str, size: int, most: int) -> None:
        if not most:
            return
        limit = f"VLLM_WSGI_MAX_BODIES allows {most}"
        if self._held[key] + size > most // KEY_PART:
            part = f"the bodies of the key's requests take too many bytes at the same time: {limit} for all keys"
            raise TooManyRequests(f"{part}, and half of them for one")
        if sum(self._held.values()) + size > most:
            raise Unavailable(f"the bodies of all requests take too many bytes at the same time: {limit}")


ROOM = BodyRoom()
