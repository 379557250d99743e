from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.stats import PrefillStats

from service.engine import pace as module
from service.engine.pace import FREE_STREAMS, LONGEST_SECONDS, Pace, beat_seconds

MANY = 64


@pytest.fixture(autouse=True)
def slow_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests lasts as long, unless it makes the beat due."""
    monkeypatch.setattr(module, "beat_seconds", lambda streams: 60.0 if streams > FREE_STREAMS else 0.0)


def step(number: int, streams: int = MANY, engine: int = 0, **first: object) -> EngineCoreOutputs:
    """One token of every stream; what `first` says is of the first stream alone."""
    outputs = [EngineCoreOutput(str(stream), [number]) for stream in range(streams)]
    for name, value in first.items():
        setattr(outputs[0], name, value)
    return EngineCoreOutputs(engine, outputs, timestamp=float(number))


def told(*steps: EngineCoreOutputs | Callable[[Pace], None]) -> list[EngineCoreOutputs]:
    """What comes out for each step; a function is called between two of them."""
    waiting = list(steps)

    async def core() -> EngineCoreOutputs:
        await asyncio.sleep(0)
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)  # type: ignore[return-value]

    async def main() -> list[EngineCoreOutputs]:
        pace, out = Pace(core), []
        while waiting:
            if callable(waiting[0]):
                waiting.pop(0)(pace)  # type: ignore[operator]
            else:
                out.append(await pace.outputs())
        return out

    return run(main())


def run(main: Coroutine[None, None, list[EngineCoreOutputs]]) -> list[EngineCoreOutputs]:
    return asyncio.run(asyncio.wait_for(main, 30))


def tokens(outputs: EngineCoreOutputs) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for output in outputs.outputs:
        found.setdefault(output.request_id, []).extend(output.new_token_ids)
    return found


def due(pace: Pace) -> None:
    """The beat."""
    for hold in pace._holds.values():
        hold.due = time.monotonic()


def test_the_beat_slows_down_as_streams_are_added_and_never_too_far():
    beats = [beat_seconds(streams) for streams in (0, FREE_STREAMS, 16, 64, 256, 10_000)]
    assert beats == sorted(beats)
    assert (beats[1], beats[-1]) == (0, LONGEST_SECONDS)
    assert 0 < beats[2] < beats[3]


def test_with_few_streams_nothing_waits():
    out = told(*[step(number, FREE_STREAMS) for number in range(3)])
    assert [set(map(tuple, tokens(each).values())) for each in out] == [{(0,)}, {(1,)}, {(2,)}]


def test_until_the_beat_tokens_are_joined_in_their_order():
    first, second, third, beat = told(step(0), step(1), step(2), due, step(3))
    assert (len(first.outputs), second.outputs, third.outputs) == (MANY, [], [])
    assert [(output.request_id, output.new_token_ids) for output in beat.outputs] == [
        (str(stream), [1, 2, 3]) for stream in range(MANY)
    ]


def test_a_first_token_never_waits():
    _, second = told(step(0), step(1, prefill_stats=PrefillStats()))
    assert tokens(second) == {"0": [1]}


def test_an_end_never_waits_and_takes_along_what_was_held_back():
    _, _, third, beat = told(step(0), step(1), step(2, finish_reason=FinishReason.LENGTH), due, step(3, 1))
    assert tokens(third) == {"0": [1, 2]}
    assert third.outputs[-1].finish_reason == FinishReason.LENGTH
    assert tokens(beat) == {"0": [3]} | {str(stream): [1, 2] for stream in range(1, MANY)}


def test_what_has_more_than_tokens_is_held_back_as_it_is():
    marked = [step(number, num_nans_in_logits=1) for number in (1, 2)]
    *_, beat = told(step(0), *marked, step(3), due, step(4))
    assert [output.num_nans_in_logits for output in beat.outputs if output.request_id == "0"] == [1, 1, 0]
    assert tokens(beat)["0"] == [1, 2, 3, 4]


def test_every_step_tells_its_time_and_its_statistics():
    steps = [step(number) for number in (1, 2, 3)]
    for each in steps:
        each.scheduler_stats = object()  # type: ignore[assignment]
    wanted = [(float(number), each.scheduler_stats) for number, each in enumerate(steps, 1)]
    assert [(each.timestamp, each.scheduler_stats) for each in told(*steps)] == wanted


def test_each_engine_tells_what_it_brought_itself():
    steps = [step(number, MANY, engine) for number in (1, 2) for engine in (0, 1)]
    *_, zero, one = told(*steps, due, step(3), step(3, MANY, 1))
    assert (zero.engine_index, tokens(zero)["0"]) == (0, [2, 3])
    assert (one.engine_index, tokens(one)["0"]) == (1, [2, 3])


def test_what_is_held_back_leaves_though_no_step_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "beat_seconds", lambda streams: 0.05)
    waiting = [step(0), step(1)]

    async def core() -> EngineCoreOutputs:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def main() -> list[EngineCoreOutputs]:
        pace = Pace(core)
        return [await pace.outputs() for _ in range(3)]

    *_, last = run(main())
    assert set(map(tuple, tokens(last).values())) == {(1,)}
    assert last.timestamp == 1.0


def test_a_dead_engine_is_told_at_once():
    async def core() -> EngineCoreOutputs:
        raise EngineDeadError

    with pytest.raises(EngineDeadError):
        asyncio.run(Pace(core).outputs())
