from __future__ import annotations

import pytest
from vllm.config import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from service.engine.vllm.scheduler import ShortSteps, use_our_scheduler


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
