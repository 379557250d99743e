"""The place up to which a client has a stream, as a short text. The client sends it back to ask for the rest.

    STREAM.12-57            12 tokens and 57 characters of text of the one answer
    STREAM.12-57-30-1-12    and 30 characters of thinking, one call, 12 log probabilities
    STREAM.12-57~1          and the first record of the answer's end
    STREAM.12-57,,4-20      of three answers, of which the second has not begun
    STREAM.end              everything

Lengths hold however the deltas are joined, and on every engine that the stream moves to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from ..errors import BadRequest
from ..protocol.events import Delta, Finished

END = "end"
# A cursor names each answer, and a server takes headers of some kilobytes.
MAX_ANSWERS = 128

_ANSWER = re.compile(r"(\d{1,9}(?:-\d{1,9}){0,4})(?:~(\d{1,3}))?")


@dataclass
class Counts:
    """The part of one answer that a client has: lengths, and the number of records of its end."""

    tokens: int = 0
    text: int = 0
    thinking: int = 0
    calls: int = 0
    logprobs: int = 0
    end: int = 0

    def add(self, delta: Delta) -> None:
        self.tokens += len(delta.token_ids)
        self.text += len(delta.text)
        self.thinking += len(delta.thinking)
        self.calls += len(delta.tool_calls)
        self.logprobs += len(delta.logprobs)

    def split(self, delta: Delta) -> tuple[Delta, Delta]:
        """Return the delta up to these counts and what follows; the counts go down by the former."""
        tokens, text = min(self.tokens, len(delta.token_ids)), min(self.text, len(delta.text))
        thinking, calls = min(self.thinking, len(delta.thinking)), min(self.calls, len(delta.tool_calls))
        logprobs = min(self.logprobs, len(delta.logprobs))
        before = Delta(
            delta.id,
            delta.seq,
            delta.text[:text],
            delta.token_ids[:tokens],
            delta.thinking[:thinking],
            delta.tool_calls[:calls],
            delta.logprobs[:logprobs],
            delta.index,
            delta.prompt_tokens,
        )
        after = Delta(
            delta.id,
            delta.seq + tokens,
            delta.text[text:],
            delta.token_ids[tokens:],
            delta.thinking[thinking:],
            delta.tool_calls[calls:],
            delta.logprobs[logprobs:],
            delta.index,
        )
        self.tokens -= tokens
        self.text -= text
        self.thinking -= thinking
        self.calls -= calls
        self.logprobs -= logprobs
        return before, after

    @property
    def is_empty(self) -> bool:
        return not (self.tokens or self.text or self.thinking or self.calls or self.logprobs)

    @property
    def rest(self) -> str:
        """The end of the text, which a delta of nothing but tokens and text does not change."""
        numbers = ""
        if self.thinking or self.calls or self.logprobs:
            numbers += f"-{self.thinking}"
        if self.calls or self.logprobs:
            numbers += f"-{self.calls}"
        if self.logprobs:
            numbers += f"-{self.logprobs}"
        return f"{numbers}~{self.end}" if self.end else numbers

    def __str__(self) -> str:
        return f"{self.tokens}-{self.text}{self.rest}"


class Cursor:
    """The counts of every answer that has begun. A record changes those of one answer, and the others' text stays."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._prefix = f"{stream}."
        self.at_end = False
        self.answers: dict[int, Counts] = {}
        # The counts of the only answer, and the end of their text.
        self._only: Counts | None = None
        self._rest = ""
        # By the index of the answer, up to the last one that has begun.
        self._texts: list[str] = []

    @classmethod
    def parse(cls, text: str, stream: str) -> Cursor:
        """Return the cursor that a client gives back, at the beginning for an empty text. Raises BadRequest."""
        cursor = cls(stream)
        name, dot, counts = text.rpartition(".")
        if dot and name != stream:
            raise BadRequest("the cursor belongs to another stream")
        if counts == END:
            cursor.at_end = True
            return cursor
        answers = counts.split(",")
        if len(answers) > MAX_ANSWERS:
            raise BadRequest("the cursor is not valid")
        for index, answer in enumerate(answers):
            if not answer:
                continue
            match = _ANSWER.fullmatch(answer)
            if match is None or not answer.isascii():
                raise BadRequest("the cursor is not valid")
            has = Counts(*map(int, match[1].split("-")))
            has.end = int(match[2] or 0)
            cursor._begin(index, has)
            cursor._texts[index] = str(has)
        return cursor

    def begin(self, index: int) -> None:
        """Count an answer as begun, of which the client has no token yet."""
        self.add(Delta(0, 0, "", [], index=index))

    def add(self, event: Union[Delta, Finished], records: int = 0) -> None:
        """Count a delta that the client gets, or as many `records` of an answer's end."""
        counts = self.answers.get(event.index) or self._begin(event.index, Counts())
        if isinstance(event, Finished):
            counts.end = records
        else:
            counts.add(event)
        self._texts[event.index] = str(counts)
        self._only, self._rest = (counts, counts.rest) if len(self.answers) == 1 and not event.index else (None, "")

    def after_text(self, delta: Delta) -> str:
        """Count a delta that has tokens and text alone, and return the cursor after it. Most deltas come here."""
        counts = self._only
        if counts is None or delta.index:
            self.add(delta)
            return str(self)
        counts.tokens += len(delta.token_ids)
        counts.text += len(delta.text)
        text = self._texts[0] = f"{counts.tokens}-{counts.text}{self._rest}"
        return self._prefix + text

    def left_out(self, event: Union[Delta, Finished]) -> int:
        """Return how many records of an answer's end the client has."""
        counts = self.answers.get(event.index)
        return 0 if counts is None else counts.end

    def __str__(self) -> str:
        return self._prefix + (END if self.at_end else ",".join(self._texts))

    def _begin(self, index: int, counts: Counts) -> Counts:
        self.answers[index] = counts
        self._texts += [""] * (index + 1 - len(self._texts))
        return counts


class Replay:
    """Separates the part that a client has from the rest, in events that begin at the stream's beginning."""

    def __init__(self, cursor: Cursor) -> None:
        self._left = {index: Counts(**vars(counts)) for index, counts in cursor.answers.items()}
        self._begun: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Whether every further delta follows what the client has."""
        return not self._left

    def split(self, delta: Delta) -> tuple[Delta | None, Delta | None]:
        """Return the part that the client has and the part that follows; None for a part that is not there."""
        left = self._left.get(delta.index)
        if left is None:
            return None, delta
        is_first = delta.index not in self._begun
        self._begun.add(delta.index)
        if left.is_empty and not is_first:
            del self._left[delta.index]
            return None, delta
        before, after = left.split(delta)
        counts = Counts()
        counts.add(after)
        return before, None if counts.is_empty else after
