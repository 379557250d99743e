from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from service.engine.pace import FREE_STREAMS, LONGEST_SECONDS, Pace


def of(streams: int) -> tuple[Pace, ExitStack]:
    """A pace with so many streams, which leave with the stack."""
    pace, stack = Pace(), ExitStack()
    for _ in range(streams):
        stack.enter_context(pace.stream())
    return pace, stack


def test_with_few_streams_nothing_waits():
    pace, _open = of(FREE_STREAMS)
    with pytest.raises(StopIteration):
        pace.wait().send(None)


def test_the_beat_slows_down_as_streams_are_added_and_never_too_far():
    held = [of(streams) for streams in (0, FREE_STREAMS, 16, 64, 256, 10_000)]
    beats = [pace.seconds for pace, _ in held]
    assert beats == sorted(beats)
    assert (beats[1], beats[-1]) == (0, LONGEST_SECONDS)
    assert 0 < beats[2] < beats[3]


def test_streams_that_have_ended_count_no_more():
    pace, stack = of(100)
    stack.close()
    assert pace.seconds == 0


def test_all_who_wait_go_on_together_whenever_they_came():
    async def main() -> list[str]:
        pace, _open = of(64)
        told: list[str] = []

        async def tell(name: str, after: float) -> None:
            await asyncio.sleep(after)
            await pace.wait()
            told.append(name)
            asyncio.get_running_loop().call_soon(told.append, "next turn")

        await asyncio.gather(tell("a", 0), tell("b", pace.seconds / 4), tell("c", pace.seconds / 2))
        return told

    assert asyncio.run(main())[:3] == ["a", "b", "c"]


def test_one_who_is_cancelled_takes_nobody_along():
    async def main() -> tuple[bool, bool]:
        pace, _open = of(64)
        stays, goes = asyncio.create_task(pace.wait()), asyncio.create_task(pace.wait())
        await asyncio.sleep(0)
        goes.cancel()
        await asyncio.wait([stays, goes])
        return stays.cancelled(), goes.cancelled()

    assert asyncio.run(main()) == (False, True)
