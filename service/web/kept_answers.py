"""Make the records of a kept stream when it begins, and again for each client that comes back.

In: a parsed body, or the recipe that was made of it; events from the stream's beginning. Out: records, each with the
cursor that stands after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Optional, Union

import msgspec
from msgspec.structs import replace as replace_struct

from ..dialects.answer import Answer
from ..dialects.ollama.answer import OllamaAnswer, OllamaChatAnswer, OllamaGenerateAnswer
from ..dialects.ollama.request import OllamaCall
from ..dialects.openai.chat_answer import ChatAnswer
from ..dialects.openai.completions import CompletionAnswer
from ..dialects.openai.parameters import OpenAICall
from ..dialects.openai.responses_request import ResponsesCall
from ..engine_client.cursor import Cursor, Replay
from ..errors import EngineFailure
from ..protocol.events import Delta, Event, Finished
from ..protocol.request import Request, Text

Call = Union[OllamaCall, OpenAICall]


class RecordRecipe(msgspec.Struct):
    """The means to make a stream's records again: the route's `kind`, and the parsed body without its prompts."""

    kind: str
    ollama: Optional[OllamaCall] = None
    openai: Optional[OpenAICall] = None
    responses: Optional[ResponsesCall] = None

    @property
    def call(self) -> Call:
        call = self.ollama or self.openai
        if call is None:
            raise EngineFailure("the stream was begun by another version of the web tier")
        return call


@dataclass(frozen=True)
class AnswerKind:
    """A route whose streams can be kept. The answer to a call counts from `began`, in nanoseconds since the epoch."""

    answer: Callable[[Any, int], Answer]
    is_ollama: bool


def _ollama(answer: type[OllamaAnswer]) -> AnswerKind:
    def make(call: OllamaCall, began: int) -> Answer:
        made = answer(call)
        made.began(began)
        return made

    return AnswerKind(make, is_ollama=True)


def _openai(answer: Callable[[OpenAICall, Callable[[], float]], Answer]) -> AnswerKind:
    return AnswerKind(lambda call, began: answer(call, lambda: began / 1e9), is_ollama=False)


KINDS = {
    "ollama.chat": _ollama(OllamaChatAnswer),
    "ollama.generate": _ollama(OllamaGenerateAnswer),
    "openai.chat": _openai(ChatAnswer),
    "openai.completions": _openai(CompletionAnswer),
}


def with_id(call: Call, stream: str) -> Call:
    """Return the call with an id for its answer that every client sees, whenever it comes.

    Without keys the id of the stream is a secret, and programs log and show the ids of answers.
    """
    if isinstance(call, OpenAICall) and not call.request_id:
        return replace(call, request_id=sha256(stream.encode()).hexdigest()[:24])
    return call


def recipe_of(kind: str, call: Call) -> bytes:
    """Return the recipe for the records of a call."""
    if isinstance(call, OllamaCall):
        recipe = RecordRecipe(kind, ollama=replace(call, request=call.request and _without_prompt(call.request)))
    else:
        recipe = RecordRecipe(kind, openai=replace(call, requests=[_without_prompt(each) for each in call.requests]))
    return msgspec.msgpack.encode(recipe)


def responses_recipe(call: ResponsesCall) -> bytes:
    """Return the recipe for a response in the background."""
    return msgspec.msgpack.encode(RecordRecipe("", responses=replace(call, request=_without_prompt(call.request))))


def read_recipe(data: bytes) -> RecordRecipe:
    """Return the recipe. Raises EngineFailure for one of another version of this package."""
    try:
        recipe = msgspec.msgpack.decode(data, type=RecordRecipe)
    except msgspec.MsgspecError:
        recipe = RecordRecipe("")
    if recipe.kind not in KINDS and recipe.responses is None:
        raise EngineFailure("the stream was begun by another version of the web tier")
    return recipe


def now() -> int:
    """Return the time in nanoseconds since the epoch."""
    return time.time_ns()


def _without_prompt(request: Request) -> Request:
    return replace_struct(request, prompt=Text(""))


class KeptRecords:
    """The records of one stream after a client's `cursor`. Its events come from the stream's beginning.

    `answers` is how many answers the stream has. With `ends_with_record` the last record is the stream's end; else a
    terminator follows it.
    """

    def __init__(self, answer: Answer, cursor: Cursor, answers: int, ends_with_record: bool) -> None:
        self._answer = answer
        answer.streams = True
        self._cursor = cursor
        self._replay = Replay(cursor)
        self._replays = not self._replay.is_over
        self._left = answers
        self._ends_with_record = ends_with_record
        end = Cursor(cursor.stream)
        end.at_end = True
        self.end = str(end)

    def batches(self, batches: Iterable[list[Event]]) -> Iterator[list[tuple[Any, str]]]:
        """Yield the records that the client does not have, with their cursors; an empty batch stays empty."""
        for batch in batches:
            records = self.records_of_all(batch)
            if records or not batch:
                yield records

    def records_of_all(self, events: Iterable[Event]) -> list[tuple[Any, str]]:
        """Return the records of several events that the client does not have, with their cursors."""
        records: list[tuple[Any, str]] = []
        for event in events:
            records += self._new_records(event) if type(event) is Delta and not self._replays else self._records(event)
        return records

    def _new_records(self, delta: Delta) -> list[tuple[Any, str]]:
        """Return the records of a delta of which the client has nothing. A stream spends its time here."""
        if delta.text and not (delta.thinking or delta.tool_calls or delta.logprobs):
            cursor = self._cursor.after_text(delta)
            return [(record, cursor) for record in self._answer.records_of(delta)]
        records: list[tuple[Any, str]] = []
        for part in _parts(delta):
            made = self._answer.records_of(part)
            # The first record of a chat's answer has the role alone. A client that has no more lacks the whole part.
            for record in made[:-1]:
                self._cursor.begin(part.index)
                records.append((record, str(self._cursor)))
            self._cursor.add(part)
            if made:
                records.append((made[-1], str(self._cursor)))
        return records

    def _records(self, event: Event) -> Iterator[tuple[Any, str]]:
        if isinstance(event, Finished):
            yield from self._ends(event)
        elif isinstance(event, Delta):
            before, after = self._replay.split(event)
            self._replays = not self._replay.is_over
            for part in _parts(before) if before is not None else []:
                self._answer.records_of(part)
            yield from self._new_records(after) if after is not None else []
        else:
            self._answer.records_of(event)

    def _ends(self, finished: Finished) -> Iterator[tuple[Any, str]]:
        self._left -= 1
        records = self._answer.records_of(finished)
        has = self._cursor.left_out(finished)
        if not self._left and self._ends_with_record:
            # The cursor after the last record says that it is the end.
            has = min(has, len(records) - 1)
        for number, record in enumerate(records[has:], has + 1):
            self._cursor.add(finished, number)
            is_last = not self._left and number == len(records) and self._ends_with_record
            yield record, self.end if is_last else str(self._cursor)


def _parts(delta: Delta) -> list[Delta]:
    """Return a delta for each record that a dialect makes of this one: thinking, text and calls."""
    if not (delta.thinking or delta.tool_calls):
        return [delta]
    if bool(delta.thinking) + bool(delta.text) + bool(delta.tool_calls) < 2:
        return [delta]
    parts = []
    if delta.thinking:
        parts.append(Delta(delta.id, delta.seq, "", [], thinking=delta.thinking, index=delta.index))
    if delta.text:
        parts.append(Delta(delta.id, delta.seq, delta.text, [], index=delta.index))
    if delta.tool_calls:
        parts.append(Delta(delta.id, delta.seq, "", [], tool_calls=delta.tool_calls, index=delta.index))
    parts[0].token_ids, parts[0].logprobs = delta.token_ids, delta.logprobs
    parts[0].prompt_tokens = delta.prompt_tokens
    return parts
