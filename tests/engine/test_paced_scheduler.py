from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from vllm.config import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats, SchedulerStats

from service.engine.vllm import paced_scheduler as module
from service.engine.vllm.paced_scheduler import (
    FREE_STREAMS,
    LONGEST_SECONDS,
    Outputs,
    PacedScheduler,
    TokenJoiner,
    interval_seconds,
    use_paced_scheduler,
)

MANY = 64


@pytest.fixture(autouse=True)
def slow_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests lasts as long, unless it makes the beat due."""
    monkeypatch.setattr(module, "interval_seconds", lambda streams: 60.0 if streams > FREE_STREAMS else 0.0)


def step(number: int, streams: int = MANY, front: int = 0, **first: object) -> Outputs:
    """One token of every stream; what `first` says is of the first stream alone."""
    outputs = [EngineCoreOutput(str(stream), [number]) for stream in range(streams)]
    for name, value in first.items():
        setattr(outputs[0], name, value)
    return {front: EngineCoreOutputs(outputs=outputs)}


def told(*steps: Outputs) -> Iterator[Outputs]:
    """What leaves after each step; the last one comes with the beat."""
    pace = TokenJoiner()
    for each in steps[:-1]:
        yield pace.passed(each)
    pace._due = time.monotonic()
    yield pace.passed(steps[-1])


def tokens(outputs: Outputs, front: int = 0) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for output in outputs[front].outputs if outputs else []:
        found.setdefault(output.request_id, []).extend(output.new_token_ids)
    return found


def test_the_beat_slows_down_as_streams_are_added_and_never_too_far():
    beats = [interval_seconds(streams) for streams in (0, FREE_STREAMS, 16, 64, 256, 10_000)]
    assert beats == sorted(beats)
    assert (beats[1], beats[-1]) == (0, LONGEST_SECONDS)
    assert 0 < beats[2] < beats[3]


def test_with_few_streams_nothing_waits():
    pace = TokenJoiner()
    assert [tokens(pace.passed(step(number, 1))) for number in (1, 2, 3)] == [{"0": [1]}, {"0": [2]}, {"0": [3]}]


def test_until_the_beat_tokens_are_joined_in_their_order_and_no_message_is_sent():
    first, second, third, beat = told(step(0), step(1), step(2), step(3))
    assert (len(first[0].outputs), second, third) == (MANY, {}, {})
    assert [(output.request_id, output.new_token_ids) for output in beat[0].outputs] == [
        (str(stream), [1, 2, 3]) for stream in range(MANY)
    ]


def test_a_first_token_never_waits():
    _, second, beat = told(step(0), step(1, prefill_stats=PrefillStats()), step(2))
    assert tokens(second) == {"0": [1]}
    assert tokens(beat) == {"0": [2]} | {str(stream): [1, 2] for stream in range(1, MANY)}


def test_an_end_never_waits_and_takes_along_what_was_kept_back():
    _, _, third, beat = told(step(0), step(1), step(2, finish_reason=FinishReason.LENGTH), step(3, 1))
    assert tokens(third) == {"0": [1, 2]}
    assert third[0].outputs[-1].finish_reason == FinishReason.LENGTH
    assert tokens(beat) == {"0": [3]} | {str(stream): [1, 2] for stream in range(1, MANY)}


def test_what_has_more_than_tokens_is_kept_back_as_it_is():
    marked = [step(number, num_nans_in_logits=1) for number in (1, 2)]
    *_, beat = told(step(0), *marked, step(3), step(4))
    assert [output.num_nans_in_logits for output in beat[0].outputs if output.request_id == "0"] == [1, 1, 0]
    assert tokens(beat)["0"] == [1, 2, 3, 4]


def test_statistics_leave_at_once():
    counted = step(1)
    counted[0].scheduler_stats = SchedulerStats(num_running_reqs=7)
    _, second, beat = told(step(0), counted, step(2))
    assert (second[0].scheduler_stats, second[0].outputs) == (counted[0].scheduler_stats, [])
    assert tokens(beat)["0"] == [1, 2]


def test_each_front_is_told_what_it_asked_for():
    steps = [step(number) | step(number + 10, front=1) for number in (0, 1, 2)]
    *_, beat = told(*steps)
    assert (tokens(beat)["0"], tokens(beat, 1)["0"]) == ([1, 2], [11, 12])


def test_the_beat_brings_what_is_kept_back_of_a_front_that_the_step_has_nothing_for():
    *_, beat = told(step(0, front=1), step(1, front=1), step(2))
    assert (tokens(beat)["0"], tokens(beat, 1)["0"]) == ([2], [1])


def scheduler_of(chosen: str | None, asynchronous: bool) -> type:
    config = SchedulerConfig.default_factory(async_scheduling=asynchronous, scheduler_cls=chosen)
    use_paced_scheduler(config)
    return config.get_scheduler_cls()


@pytest.mark.parametrize(("asynchronous", "scheduler"), [(False, Scheduler), (True, AsyncScheduler)])
def test_it_is_vllms_own_scheduler_but_for_what_it_tells(asynchronous: bool, scheduler: type):
    paced = scheduler_of(None, asynchronous)
    assert issubclass(paced, PacedScheduler)
    assert issubclass(paced, scheduler)
    assert paced.get_request_counts is scheduler.get_request_counts  # type: ignore[attr-defined]


def test_a_scheduler_that_somebody_has_chosen_stays():
    assert scheduler_of(f"{AsyncScheduler.__module__}.AsyncScheduler", True) is AsyncScheduler
