"""Fits a conversation into a context, as Ollama's `server/prompt.go` does: the oldest messages are dropped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import TypeVar

import msgspec

from ...protocol.request import Message

T = TypeVar("T")

# One in this many characters of thinking and calls is counted.
DROPPED = 8


def length(message: Message) -> int:
    """Return how many characters a template writes of a message at the least, as far as that bounds its work.

    Templates drop the thinking of earlier turns and much of a call's JSON, so only a part of them is counted.
    """
    calls = len(msgspec.json.encode(message.tool_calls)) if message.tool_calls else 0
    return len(message.text) + (len(message.thinking) + calls) // DROPPED


class Conversation:
    """The messages of a chat, and the places where its oldest messages can be cut off.

    Whole messages are dropped, since a template that is cut is not a valid prompt. System messages and the last message
    always stay, and the results of tools are dropped together with their call.
    """

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        last = len(messages) - 1
        while last > 0 and messages[last].role == "tool":
            last -= 1
        inner = (index for index in range(1, last + 1) if messages[index].role != "tool")
        # The indices of the oldest message that can stay; the first one leaves the conversation whole.
        self._cuts = [0, *inner]
        # The characters from each of these places on, negative so that they grow.
        ends = [*self._cuts[1:], len(messages)]
        lengths = [-sum(length(each) + 1 for each in messages[a:b]) for a, b in zip(self._cuts, ends, strict=True)]
        self._negative_lengths = list(accumulate(reversed(lengths)))[::-1]

    def __len__(self) -> int:
        return len(self._cuts)

    def after(self, cut: int) -> list[Message]:
        """Return the messages that are left when the conversation begins at its `cut`-th place."""
        oldest = self._cuts[cut]
        if not oldest:
            return self._messages
        return [message for message in self._messages[:oldest] if message.role == "system"] + self._messages[oldest:]

    def place_of(self, cut: int, share: float) -> int:
        """Return the first place after which the rest has at most this share of the characters after `cut`."""
        return bisect_left(self._negative_lengths, self._negative_lengths[cut] * share)

    def first_within(self, characters: int, messages: int) -> int:
        """Return the first place after which the rest can fit: it has no more characters and messages than these.

        Return the number of places when there is none.
        """
        kept = sum(length(each) for each in self._messages if each.role == "system")
        count = sum(each.role == "system" for each in self._messages)
        first, behind = len(self._cuts), len(self._messages)
        for cut in range(len(self._cuts) - 1, -1, -1):
            for each in self._messages[self._cuts[cut] : behind]:
                if each.role != "system":
                    kept += length(each)
                    count += 1
            behind = self._cuts[cut]
            # The last message stays however many there are.
            if kept > characters or (count > messages and cut < len(self._cuts) - 1):
                break
            first = cut
        return first


async def longest_fit(
    conversation: Conversation,
    first: int,
    render: Callable[[list[Message]], Awaitable[T]],
    tokens: Callable[[T], int],
    limit: int,
) -> T:
    """Return the rendering of as many of the latest messages as have fewer tokens than `limit`.

    Begins at the `first` place, and returns the shortest rendering when none fits. The number of renderings grows with
    the logarithm of that of the messages. Mostly it is three: the characters of the messages show where to look.
    """
    last = len(conversation) - 1
    rendered = await render(conversation.after(first))
    if (length := tokens(rendered)) < limit or first == last:
        return rendered
    # Every place before `low` is too long, and from `high` on the rest fits or is the shortest that there is.
    low, high, best, missed = first + 1, last, None, False
    place, step = conversation.place_of(first, limit / length), 1
    while low < high:
        place = max(low, min(high - 1, place))
        rendered = await render(conversation.after(place))
        if tokens(rendered) < limit:
            best, high = rendered, place
        else:
            low, missed = place + 1, True
        # In ever larger steps away from the first guess until it is known from both sides, then in halves.
        between = best is not None and missed
        place = (low + high) // 2 if between else high - step if best is not None else low - 1 + step
        step *= 2
    return best if best is not None else await render(conversation.after(last))
