"""The requests that wait in vLLM's scheduler, in an order in which callers take turns.

vLLM's own queue is in the order of arrival. There, a caller with a hundred long prompts has all of them computed before
the next caller's short one. The processes of vLLM's core import this module, too.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request

# The key in SamplingParams.extra_args under which the caller's name travels to the scheduler.
CALLER = "vllm_wsgi_caller"


def caller_of(request: Request) -> str:
    """Return the name of the request's caller; empty where it has none."""
    parameters = request.sampling_params
    return str(parameters.extra_args.get(CALLER, "")) if parameters is not None and parameters.extra_args else ""


class CallersQueue(RequestQueue):  # type: ignore[misc]
    """The lowest priority number first, then one caller after the other, then the oldest request.

    As in vLLM's PriorityRequestQueue, a request that comes back has the place of its arrival.
    """

    def __init__(self) -> None:
        # By priority, then by caller in the order of their next turns: heaps.
        self._lanes: defaultdict[int, dict[str, list[Request]]] = defaultdict(dict)
        self._length = 0
        self._room: dict[str, int] | None = None

    def limit(self, room: dict[str, int] | None) -> None:
        """Let out as many requests of each caller as `room` names, and keep the others back; None: let out all."""
        self._room = room

    def callers(self) -> set[str]:
        """Return the callers whose requests wait."""
        return {caller for lanes in self._lanes.values() for caller in lanes}

    def add_request(self, request: Request) -> None:
        heapq.heappush(self._lanes[request.priority].setdefault(caller_of(request), []), request)
        self._length += 1

    def peek_request(self) -> Request:
        caller = self._next_caller()
        if caller is None:
            raise IndexError("peek from an empty queue")
        return self._lanes[min(self._lanes)][caller][0]

    def _next_caller(self) -> str | None:
        """Return the caller of the next request; None when no request is let out."""
        if not self._length:
            return None
        callers = self._lanes[min(self._lanes)]
        return next((caller for caller in callers if self._room is None or self._room.get(caller, 0) > 0), None)

    def pop_request(self) -> Request:
        """Take out the next request and return it; its caller's next one comes after those of the other callers."""
        first = self.peek_request()
        priority, caller = first.priority, caller_of(first)
        lanes = self._lanes[priority]
        lane = lanes[caller]
        request = heapq.heappop(lane)
        self._length -= 1
        if self._room is not None:
            self._room[caller] -= 1
        del lanes[caller]
        if lane:
            lanes[caller] = lane
        elif not lanes:
            del self._lanes[priority]
        return request

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def remove_request(self, request: Request) -> None:
        self.remove_requests([request])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = set(requests)
        if not gone:
            return
        for priority, lanes in list(self._lanes.items()):
            for caller, lane in list(lanes.items()):
                left = [request for request in lane if request not in gone]
                self._length -= len(lane) - len(left)
                heapq.heapify(left)
                if left:
                    lanes[caller] = left
                else:
                    del lanes[caller]
            if not lanes:
                del self._lanes[priority]

    def __bool__(self) -> bool:
        return self._next_caller() is not None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Request]:
        for priority in sorted(self._lanes):
            for lane in self._lanes[priority].values():
                yield from sorted(lane)
