"""The answers of a stream so far, each as a few joined deltas, and places in them.

In: the deltas and ends of a stream's answers. Out: the rest after a place, joined again.
The answers are numbered by the `index` of their events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any, Union

from .events import Delta, Event, Finished, TokenLogprob
from .request import SoFar

# The bytes that a token id, a log probability and a call take at least, without their texts.
_TOKEN_BYTES, _LOGPROB_BYTES, _CALL_BYTES = 36, 200, 500
# So many events are joined at once, which costs a quarter of joining each as it comes.
_AT_ONCE = 32


class Run:
    """Deltas of one answer that can be joined: thinking comes before text, and text before calls.

    Log probabilities don't say whose they are, so those of thinking are not joined with those of text.
    """

    def __init__(self, seq: int, prompt_tokens: int) -> None:
        self.seq = seq
        self.prompt_tokens = prompt_tokens
        self._text, self._thinking = StringIO(), StringIO()
        # In characters.
        self.text = self.thinking = 0
        self.token_ids: list[int] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[TokenLogprob] = []

    def takes(self, delta: Delta) -> bool:
        """Return whether the delta can be joined to this run."""
        begins_text = delta.text and self.thinking and self.logprobs and not self.text
        return not (self.calls or (delta.thinking and self.text) or begins_text)

    def add(self, delta: Delta) -> int:
        """Join the delta. Return how many bytes it takes, about."""
        text, thinking = len(delta.text), len(delta.thinking)
        # Both stand at their ends, where reading leaves them too.
        if text:
            self._text.write(delta.text)
            self.text += text
        if thinking:
            self._thinking.write(delta.thinking)
            self.thinking += thinking
        self.token_ids += delta.token_ids
        size = 4 * (text + thinking) + _TOKEN_BYTES * len(delta.token_ids)
        # Most deltas have neither.
        return size + self._add_rare(delta) if delta.tool_calls or delta.logprobs else size

    def add_texts(self, texts: list[str], token_ids: list[int]) -> int:
        """Join deltas that have nothing but text and tokens. Return how many bytes they take, about."""
        text = "".join(texts)
        self._text.write(text)
        self.text += len(text)
        self.token_ids += token_ids
        return 4 * len(text) + _TOKEN_BYTES * len(token_ids)

    def _add_rare(self, delta: Delta) -> int:
        self.calls += delta.tool_calls
        self.logprobs += delta.logprobs
        alternatives = sum(1 + len(each.top_logprobs) for each in delta.logprobs)
        return _LOGPROB_BYTES * alternatives + sum(_CALL_BYTES + len(str(call)) for call in delta.tool_calls)

    def since(self, place: Place) -> Delta:
        """Return the rest after the place, as one delta, and move the place to the end of this run."""
        first = place.is_first
        self._text.seek(place.text)
        self._thinking.seek(place.thinking)
        delta = Delta(
            0,
            self.seq + place.tokens,
            self._text.read(),
            self.token_ids[place.tokens :],
            self._thinking.read(),
            self.calls[place.calls :],
            self.logprobs[place.logprobs :],
            prompt_tokens=self.prompt_tokens if first else 0,
        )
        place.is_first = False
        place.tokens, place.text, place.thinking = len(self.token_ids), self.text, self.thinking
        place.calls, place.logprobs = len(self.calls), len(self.logprobs)
        return delta


class Place:
    """A reader's place in one answer: the number of the run, and lengths in that run."""

    def __init__(self) -> None:
        self.run = 0
        self.is_first = True
        self.ended = False
        self.tokens = self.text = self.thinking = self.calls = self.logprobs = 0

    def next_run(self) -> None:
        self.run += 1
        self.tokens = self.text = self.thinking = self.calls = self.logprobs = 0


class Places:
    """A reader's place in each answer of a stream; at first the beginning of all."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}

    def of(self, index: int) -> Place:
        place = self._places.get(index)
        if place is None:
            place = self._places[index] = Place()
        return place


class JoinedAnswers:
    """Every answer of a stream so far. `bytes` is about how much memory they take."""

    def __init__(self) -> None:
        self._runs: dict[int, list[Run]] = {}
        # In the order in which the answers ended.
        self._ended: dict[int, Finished] = {}
        self._tokens = 0
        # As `bytes`, without the newest events.
        self.settled_bytes = 0
        # The newest events, which are not joined yet.
        self._newest: list[Union[Delta, Finished]] = []

    @property
    def ended(self) -> int:
        """How many answers have ended."""
        self._join()
        return len(self._ended)

    @property
    def tokens(self) -> int:
        """How many tokens the answers have."""
        self._join()
        return self._tokens

    @property
    def bytes(self) -> int:
        """About how much memory the answers take."""
        self._join()
        return self.settled_bytes

    def has_ended(self, index: int) -> bool:
        self._join()
        return index in self._ended

    def so_far(self, index: int) -> SoFar:
        """Return what has come of an answer, in lengths."""
        self._join()
        runs = self._runs.get(index, [])
        token_ids = [token_id for run in runs for token_id in run.token_ids]
        return SoFar(
            token_ids,
            sum(run.text for run in runs),
            sum(run.thinking for run in runs),
            sum(len(run.calls) for run in runs),
        )

    def add(self, event: Union[Delta, Finished]) -> None:
        """Add the next event. Only its `id` may be changed afterwards."""
        self._newest.append(event)
        if len(self._newest) >= _AT_ONCE:
            self._join()

    def _join(self) -> None:
        """Join the newest events to those before them."""
        newest, self._newest = self._newest, []
        index, texts, token_ids = -1, [], []
        for event in newest:
            # Most events go on with the text of the one before.
            has_rare = type(event) is not Delta or event.thinking or event.tool_calls or event.logprobs
            if event.index == index and type(event) is Delta and not has_rare:
                texts.append(event.text)
                token_ids += event.token_ids
                continue
            self._join_texts(index, texts, token_ids)
            texts, token_ids = [], []
            self._join_one(event)
            # What follows a call begins a run of its own.
            index = event.index if type(event) is Delta and not event.tool_calls else -1
        self._join_texts(index, texts, token_ids)

    def _join_texts(self, index: int, texts: list[str], token_ids: list[int]) -> None:
        if texts:
            self.settled_bytes += self._runs[index][-1].add_texts(texts, token_ids)
            self._tokens += len(token_ids)

    def _join_one(self, event: Union[Delta, Finished]) -> None:
        if isinstance(event, Finished):
            self._ended[event.index] = _copied(event)
            self.settled_bytes += _TOKEN_BYTES * len(event.prompt_token_ids)
            return
        runs = self._runs.get(event.index)
        if runs is None:
            runs = self._runs[event.index] = [Run(event.seq, event.prompt_tokens)]
        elif not runs[-1].takes(event):
            runs.append(Run(event.seq, 0))
        self.settled_bytes += runs[-1].add(event)
        self._tokens += len(event.token_ids)

    def since(self, places: Places) -> Iterator[Union[Delta, Finished]]:
        """Yield the rest after the places, which move along: first ended answers, in the order of their ends."""
        self._join()
        for index in [*self._ended, *(index for index in self._runs if index not in self._ended)]:
            place = places.of(index)
            if place.ended:
                continue
            yield from self._deltas(index, place)
            if index in self._ended:
                place.ended = True
                yield _copied(self._ended[index])

    def _deltas(self, index: int, place: Place) -> Iterator[Delta]:
        runs = self._runs.get(index, [])
        while place.run < len(runs):
            is_first = place.is_first
            delta = runs[place.run].since(place)
            delta.index = index
            if is_first or delta.token_ids or delta.text or delta.thinking or delta.tool_calls or delta.logprobs:
                yield delta
            if place.run == len(runs) - 1:
                return
            place.next_run()


def joined_whole(batches: Iterable[list[Event]]) -> Iterator[list[Event]]:
    """Yield the events of a stream, its answers joined after all others.

    An answer of a million tokens then takes the memory of its text, not of a record for each token.
    """
    answers = JoinedAnswers()
    for batch in batches:
        others: list[Event] = []
        for event in batch:
            if isinstance(event, (Delta, Finished)):
                answers.add(event)
            else:
                others.append(event)
        if others:
            yield others
    yield [*answers.since(Places())]


def _copied(finished: Finished) -> Finished:
    """Return a copy, since those who pass an event on set its `id`."""
    return Finished(*(getattr(finished, name) for name in Finished.__struct_fields__))
