"""How much this process holds for clients at the same time, by key: bytes of bodies, and log probabilities of answers.

In: what a body or an answer takes as it comes in. Out: nothing, or the refusal of one for which there is no room.
A client may send thousands of requests at once. Each alone has a bound, and all of them would fill the memory.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..errors import TooManyRequests, Unavailable
from ..protocol.events import Delta, Event

# One key may take this part of the room, so that others always find some.
KEY_PART = 2
# The log probabilities that one answer may have find room so often.
WHOLE_ANSWERS = 8


class SharedRoom:
    """The room that all requests share. Threads share it. `what` and `setting` are for the refusals."""

    def __init__(self, what: str, setting: str) -> None:
        self._what = what
        self._setting = setting
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def part_of(self, key: str, most: int) -> Iterator[Callable[[int], None]]:
        """Yield the function that takes so much more room for one request of a key, up to the context's end.

        All requests may take `most`, where 0 is no limit. The function raises TooManyRequests where those of the key
        take too much, and Unavailable where those of all do.
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
        limit = f"{self._setting} allows {most}"
        if self._held[key] + size > most // KEY_PART:
            part = f"{self._what} of the key's requests are too many at the same time: {limit} for all keys"
            raise TooManyRequests(f"{part}, and half of them for one")
        if sum(self._held.values()) + size > most:
            raise Unavailable(f"{self._what} of all requests are too many at the same time: {limit}")


BODY_BYTES = SharedRoom("the bytes of the bodies", "VLLM_WSGI_MAX_BODIES")
LOGPROBS = SharedRoom("the log probabilities in the answers", f"VLLM_WSGI_MAX_LOGPROBS, times {WHOLE_ANSWERS},")


@contextmanager
def room_for_logprobs(key: str, most: int) -> Iterator[Callable[[Iterable[list[Event]]], Iterator[list[Event]]]]:
    """Yield a function that passes an answer's batches on. Their log probabilities take room up to the context's end.

    One answer may have `most`, where 0 is no limit. The iterator raises as the function of `SharedRoom.part_of`.
    """
    with LOGPROBS.part_of(key, WHOLE_ANSWERS * most) as take:

        def taking(batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
            for batch in batches:
                if count := sum(map(_logprobs, batch)):
                    take(count)
                yield batch

        yield taking


def _logprobs(event: Event) -> int:
    if type(event) is not Delta or not event.logprobs:
        return 0
    return sum(1 + len(token.top_logprobs) for token in event.logprobs)
