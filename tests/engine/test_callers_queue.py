"""The order of requests that wait in vLLM's scheduler."""

from __future__ import annotations

import random
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.v1.core.sched.request_queue import PriorityRequestQueue, RequestQueue
from vllm.v1.request import Request

from service.engine.vllm.callers_queue import CALLER, CallersQueue, caller_of


def request(name: str, caller: str = "", priority: int = 0, arrived: float = 0.0) -> Request:
    extra = {CALLER: caller} if caller else None
    parameters = SamplingParams(max_tokens=1, extra_args=extra)
    return Request(name, [1], parameters, None, arrival_time=arrived, priority=priority)


def queue_of(*requests: Request) -> CallersQueue:
    queue = CallersQueue()
    for each in requests:
        queue.add_request(each)
    return queue


def emptied(queue: RequestQueue) -> list[str]:
    names = []
    while queue:
        first = queue.peek_request()
        assert queue.pop_request() is first
        names.append(first.request_id)
    assert len(queue) == 0
    return names


def test_callers_take_turns():
    many = [request(f"a{number}", "a", arrived=number) for number in range(4)]
    queue = queue_of(*many, request("b0", "b", arrived=7), request("b1", "b", arrived=8), request("c0", "c", arrived=9))
    assert queue.callers() == {"a", "b", "c"}
    assert emptied(queue) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]
    assert queue.callers() == set()


def test_a_lower_priority_number_goes_first_whoever_it_is():
    queue = queue_of(request("a0", "a", 1, 0), request("b0", "b", 1, 1), request("a1", "a", 0, 2))
    assert emptied(queue) == ["a1", "a0", "b0"]


def test_without_callers_the_order_is_vllms():
    draw = random.Random(1)
    requests = [request(str(number), "", draw.randrange(3), draw.random()) for number in range(50)]
    vllms: Any = PriorityRequestQueue()
    for each in requests:
        vllms.add_request(each)
    queue = queue_of(*requests)
    assert [each.request_id for each in queue] == [each.request_id for each in vllms]
    assert emptied(queue) == emptied(vllms)


def test_a_request_that_comes_back_has_its_place_among_its_callers():
    first, second = request("a0", "a", arrived=0), request("a1", "a", arrived=1)
    queue = queue_of(first, second, request("b0", "b", arrived=2))
    queue.prepend_requests([queue.pop_request()])
    queue.prepend_request(queue.pop_request())
    assert emptied(queue) == ["a0", "b0", "a1"]


def test_requests_that_end_leave_the_queue():
    requests = [request(f"{caller}{number}", caller, number % 2) for caller in "ab" for number in range(4)]
    queue = queue_of(*requests)
    queue.remove_request(requests[0])
    queue.remove_requests([*requests[2:6], request("c0", "c")])
    assert len(queue) == 3
    assert sorted(emptied(queue)) == ["a1", "b2", "b3"]


def test_an_empty_queue_has_no_next_request():
    with pytest.raises(IndexError):
        CallersQueue().peek_request()
    with pytest.raises(IndexError):
        CallersQueue().pop_request()


def test_a_request_without_parameters_has_no_name():
    pooling = request("a")
    pooling.sampling_params = None
    assert caller_of(pooling) == ""
    assert caller_of(request("a", "b")) == "b"


def test_a_queue_with_a_limit_lets_out_as_many_of_each_caller_as_it_names():
    many = [request(f"a{number}", "a", arrived=number) for number in range(4)]
    queue = queue_of(*many, request("b0", "b", arrived=7), request("b1", "b", arrived=8), request("c0", "c", arrived=9))
    queue.limit({"a": 2, "b": 1})
    assert [queue.pop_request().request_id for _ in range(3)] == ["a0", "b0", "a1"]
    assert not queue
    assert len(queue) == 4
    with pytest.raises(IndexError):
        queue.peek_request()
    queue.limit(None)
    assert emptied(queue) == ["c0", "b1", "a2", "a3"]


def test_a_limited_queue_lets_out_nobody_less_urgent_meanwhile():
    queue = queue_of(request("a0", "a", 0), request("b0", "b", 1))
    queue.limit({"a": 0, "b": 5})
    assert not queue
    queue.limit({"a": 1, "b": 5})
    assert emptied_of(queue, 2) == ["a0", "b0"]


def emptied_of(queue: RequestQueue, count: int) -> list[str]:
    return [queue.pop_request().request_id for _ in range(count)]
