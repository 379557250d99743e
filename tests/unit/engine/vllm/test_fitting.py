from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.fitting import Conversation, longest_fit
from service.protocol.request import Message
from tests.support.loop import settle

CALL = {"function": {"name": "f", "arguments": {}}}


def users(count: int, length: int = 1) -> list[Message]:
    return [Message("user", "x" * length) for _ in range(count)]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Turns with their numbers as content; answers of tools stand behind the calls that they answer."""
    turns: list[Message] = []
    for kind in draw(st.lists(st.sampled_from(["system", "user", "assistant", "call"]), min_size=1, max_size=10)):
        turns.append(Message("assistant" if kind == "call" else kind, tool_calls=[CALL] if kind == "call" else []))
        turns += [Message("tool")] * (draw(st.integers(1, 3)) if kind == "call" else 0)
    return [Message(turn.role, str(number), tool_calls=turn.tool_calls) for number, turn in enumerate(turns)]


@given(conversations(), st.data())
def test_what_fits_is_a_conversation_with_its_system_messages_and_its_end(turns: list[Message], data: st.DataObject):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=len(turns), max_size=len(turns)))
    limit = data.draw(st.integers(2, sum(lengths) + 2))

    async def render(messages: list[Message]) -> list[int]:
        return [int(turn.text) for turn in messages for _ in range(lengths[int(turn.text)])]

    ids = asyncio.run(longest_fit(Conversation(turns), 0, render, len, limit))
    if len(ids) >= limit:
        # Then not even the shortest conversation fits.
        assert ids == asyncio.run(render(Conversation(turns).after(len(Conversation(turns)) - 1)))
        return
    kept = [turn for number, turn in enumerate(turns) if number in ids]
    assert len(ids) < limit
    assert ids == sorted(ids)
    assert kept[-1] == turns[-1]
    assert [turn for turn in turns if turn.role == "system" and turn not in kept] == []
    _assert_answers_follow_calls(kept)
    if sum(lengths) < limit:
        assert kept == turns


def _assert_answers_follow_calls(turns: list[Message]) -> None:
    before: Message | None = None
    for turn in turns:
        if turn.role == "tool":
            assert before is not None
            assert before.tool_calls
        else:
            before = turn


@given(conversations(), st.integers(0, 40))
def test_as_much_is_kept_as_when_messages_are_dropped_one_by_one(turns: list[Message], limit: int):
    conversation = Conversation(turns)

    async def render(messages: list[Message]) -> list[Message]:
        return messages

    found = asyncio.run(longest_fit(conversation, 0, render, len, limit + 1))
    one_by_one = [conversation.after(cut) for cut in range(len(conversation))]
    assert found == next((messages for messages in one_by_one if len(messages) <= limit), one_by_one[-1])


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 4097])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999, 1])
@pytest.mark.parametrize("lengths", [(1,), (1, 50), (30, 1, 1, 1, 1, 1, 1, 400)])
def test_the_number_of_renderings_grows_with_the_logarithm(count: int, share: float, lengths: tuple[int, ...]):
    """A token is a message, so that what the characters show is wrong where the messages differ in length."""
    rendered: list[int] = []

    async def render(messages: list[Message]) -> int:
        rendered.append(len(messages))
        return len(messages)

    messages = [Message("user", "x" * lengths[number % len(lengths)]) for number in range(count)]
    found = asyncio.run(longest_fit(Conversation(messages), 0, render, int, int(count * share) + 1))
    assert found == max(1, int(count * share))
    assert len(rendered) <= 4 + 2 * math.log2(count)
    if len(lengths) == 1:
        assert len(rendered) <= 5


@pytest.mark.parametrize(
    ("messages", "characters", "count", "first"),
    [
        (users(10), 10, 10, 0),
        (users(10), 4, 10, 6),
        (users(10), 10, 3, 7),
        (users(10), 0, 10, 10),
        (users(3), 3, 0, 2),
        ([Message("system", "s" * 5), *users(3)], 7, 9, 2),
        ([Message("system", "s" * 9), *users(3)], 7, 9, 4),
        ([*users(2), Message("tool", "t" * 9), Message("user", "x")], 5, 9, 2),
    ],
)
def test_what_can_not_fit_is_known_before_anything_is_rendered(
    messages: list[Message], characters: int, count: int, first: int
):
    assert Conversation(messages).first_within(characters, count) == first


def test_a_client_that_leaves_ends_the_search():
    rendered: list[int] = []

    async def render(messages: list[Message]) -> int:
        rendered.append(len(messages))
        await asyncio.Event().wait()
        return 0

    async def leave() -> None:
        search = asyncio.create_task(longest_fit(Conversation(users(1000)), 0, render, int, 10))
        await settle()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    asyncio.run(leave())
    assert rendered == [1000]
