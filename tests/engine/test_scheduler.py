from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.config import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from service.engine.vllm.callers_queue import CALLER, CallersQueue, caller_of
from service.engine.vllm.scheduler import ShortSteps, use_our_scheduler
from service.engine.vllm.step_limit import FIRST, StepLimit


def scheduler_of(chosen: str | None, asynchronous: bool) -> type:
    config = SchedulerConfig.default_factory(async_scheduling=asynchronous, scheduler_cls=chosen)
    use_our_scheduler(config)
    return config.get_scheduler_cls()


@pytest.mark.parametrize(("asynchronous", "scheduler"), [(False, Scheduler), (True, AsyncScheduler)])
def test_our_scheduler_is_vllms_own_but_for_what_it_replaces(asynchronous: bool, scheduler: type):
    ours = scheduler_of(None, asynchronous)
    assert issubclass(ours, ShortSteps)
    assert issubclass(ours, scheduler)
    # Nothing holds outputs or statistics back.
    for name in ("make_stats", "get_request_counts"):
        assert getattr(ours, name) is getattr(scheduler, name)


def test_a_scheduler_that_the_operator_has_chosen_stays():
    assert scheduler_of(f"{AsyncScheduler.__module__}.AsyncScheduler", True) is AsyncScheduler


def request(name: str, caller: str, is_prompt: bool = False) -> Request:
    made = Request(name, [1], SamplingParams(max_tokens=1, extra_args={CALLER: caller}), None)
    made.is_prefill_chunk = is_prompt
    return made


def next_step(running: list[Request], waiting: list[Request], operators: int = 0) -> Any:
    """A scheduler that has shared out its next step; it has no more than what that needs."""
    queue = CallersQueue()
    for each in waiting:
        queue.add_request(each)
    scheduler: Any = ShortSteps.__new__(ShortSteps)
    scheduler.__dict__ |= {
        "running": running, "waiting": queue, "need_mamba_block_aligned_split": False, "_most_tokens": 4096,
        "_operators_threshold": operators, "scheduler_config": SimpleNamespace(long_prefill_token_threshold=operators),
    }  # fmt: skip
    scheduler._share(StepLimit(4096))
    return scheduler


def threshold(running: list[Request], waiting: list[Request], operators: int = 0) -> int:
    return int(next_step(running, waiting, operators).scheduler_config.long_prefill_token_threshold)


def test_answers_get_their_tokens_before_prompts():
    running = [
        request("p", "a", is_prompt=True),
        request("1", "b"),
        request("q", "a", is_prompt=True),
        request("2", "a"),
    ]
    scheduler = next_step(running, [])
    assert [each.request_id for each in scheduler.running] == ["1", "2", "p", "q"]
    assert scheduler.max_num_scheduled_tokens == len(running) + FIRST // 2


def test_a_caller_has_the_whole_step_while_it_is_alone():
    scheduler = next_step([request("p", "a", is_prompt=True)], [request("q", "a")])
    assert scheduler.max_num_scheduled_tokens == 1 + FIRST
    assert scheduler.scheduler_config.long_prefill_token_threshold == 0


def test_a_prompt_leaves_a_part_of_the_step_to_each_caller_that_waits():
    begun = [request("p", "a", is_prompt=True)]
    assert threshold(begun, [request("q", "b")]) == FIRST // 2 // 2
    assert threshold(begun, [request("q", "b"), request("r", "c"), request("s", "a")]) == FIRST // 2 // 3
    assert threshold(begun, [request("q", "b")], operators=9) == 9
    assert threshold(begun, [], operators=9) == 9


def let_out(running: list[Request], waiting: list[Request], known: set[str], slots: int = 16) -> list[str]:
    """The callers of the requests that a step would begin, in their order."""
    queue = CallersQueue()
    for each in waiting:
        queue.add_request(each)
    scheduler: Any = ShortSteps.__new__(ShortSteps)
    scheduler.__dict__ |= {"running": running, "waiting": queue, "max_num_running_reqs": slots, "_callers": known}
    callers: list[str] = []
    with scheduler._room_for_others():
        while queue and len(running) + len(callers) < slots:
            callers.append(caller_of(queue.pop_request()))
    assert len(queue) == len(waiting) - len(callers)
    return callers


def test_a_caller_has_all_slots_only_while_it_is_the_only_one():
    many = [request(str(number), "a") for number in range(20)]
    assert let_out([], many, set()) == ["a"] * 16
    assert let_out([], many, {"b"}) == ["a"] * 14
    assert let_out(many[:14], many[14:], {"b"}) == []


def test_what_one_caller_leaves_is_for_the_others():
    many = [request(str(number), "a") for number in range(20)]
    few = [request(f"b{number}", "b") for number in range(3)]
    assert let_out(many[:14], [*many[14:], *few], set()) == ["b"]
    assert let_out([*many[:12], few[0]], [*many[12:], *few[1:]], set()) == ["a", "b", "b"]
