"""Turn the engine's events into the items and stream events of OpenAI's Responses API.

Each record is an event of the stream, named by its `type` and numbered. The last one holds the whole response, which is
the answer that is not streamed. It never knows where responses are stored.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ...errors import ServiceError
from ...protocol.events import Delta, Event, Finished, Located
from .. import answer
from ..answer import Record
from .answer import error_message, error_type
from .responses_calls import call_item
from .responses_logprobs import as_record, from_text, of_text
from .responses_request import ResponsesCall
from .responses_stored import listed


class Kind(NamedTuple):
    """The names of an item that streams its text: of its id, of its events, and of the fields that hold the text."""

    prefix: str
    text: str
    part: str
    place: str
    field: str


KINDS = {
    "reasoning": Kind(
        "rs", "response.reasoning_summary_text", "response.reasoning_summary_part", "summary_index", "summary"
    ),
    "message": Kind("msg", "response.output_text", "response.content_part", "content_index", "content"),
}

_TEXT_DELTAS = tuple(f"{kind.text}.delta" for kind in KINDS.values())


def rest_of(events: Iterable[Record], after: int) -> Iterator[Record]:
    """Yield the events of a response in the background that follow the one with the number `after`."""
    for event in events:
        new = event["sequence_number"] - after
        if new > 0:
            is_cut = event["type"] in _TEXT_DELTAS and new < len(event["delta"])
            yield {**event, "delta": event["delta"][-new:]} if is_cut else event


class ResponsesAnswer(answer.Answer):
    """The events of a response's stream, or the response. Ids are made from `key`; `now` is in seconds.

    `keep` stores a response that the request wants stored; it gets the id and the record. It is called before the last
    record is sent, so that a client that has read that record can continue the response. Its error ends the stream.

    The events of a response in the background are numbered by the characters of their texts, so that an event keeps
    its number however the deltas of the text are joined.
    """

    verb = "chat"

    def __init__(
        self,
        call: ResponsesCall,
        key: str = "",
        now: Callable[[], float] = time.time,
        keep: Callable[[str, Record], None] | None = None,
    ) -> None:
        super().__init__(call.model)
        self._call = call
        self._key = key or secrets.token_hex(12)
        self._now = now
        self._keep = keep
        self._ended: Record | None = None
        self._created_at = int(now())
        self._sequence = 0
        self._output: list[Record] = []
        self._item: Record | None = None
        self._pieces: list[str] = []
        self._logprobs: list[Record] = []
        # Those of tokens that have brought no text yet.
        self._held: list[Record] = []
        self._has_thought = False

    @property
    def keeps_logprobs(self) -> bool:
        return self._call.request.logprobs is not None

    def records(self, batches: Iterable[list[Event]]) -> Iterator[list[Record]]:
        """Yield the batches of the base. The last record comes alone, after the response has been stored."""
        yield from super().records(batches)
        if self._ended is not None:
            if self._keep is not None and self._call.store:
                self._keep(self._ended["id"], {"input": self.input(), "response": self._ended})
            yield [self._event(f"response.{self._ended['status']}", response=self._ended)]

    def input(self) -> list[Record]:
        """Return the items that the response answers, each with an id."""
        items = self._call.items
        return [*self._call.earlier, *(listed(item, f"{self._key}i{place}") for place, item in enumerate(items))]

    def failure(self, error: ServiceError) -> Record:
        """Return the last record of a stream that failed: `response.failed`, or `error` before the response begins."""
        kind = "server_error" if error.status >= 500 else "invalid_prompt"
        reason = {"code": error.code or kind, "message": error_message(error)}
        if self._sequence:
            self._cut()
            return self._event("response.failed", response=self._response("failed", error=reason))
        # The object `error` is for openai-python, which raises only if there is one.
        details = {**reason, "type": error_type(error.status), "param": error.param}
        return self._event("error", **reason, param=error.param, error=details)

    def _join(self, records: list[Record]) -> Record:
        """Return the response, which is in the last record."""
        response: Record = records[-1]["response"]
        return response

    def _records(self, event: Event) -> Iterator[Record]:
        if isinstance(event, Located):
            self.located(event)
        elif isinstance(event, Delta):
            yield from self.begin()
            yield from self._parts(event)
        elif isinstance(event, Finished):
            yield from self.begin()
            yield from self._end(event)

    def begin(self) -> Iterator[Record]:
        """Begin the response, unless it has begun."""
        if not self._sequence:
            yield self._event("response.created", response=self._response("in_progress"))
            yield self._event("response.in_progress", response=self._response("in_progress"))

    def _parts(self, delta: Delta) -> Iterator[Record]:
        if delta.thinking and self._call.show_thinking:
            yield from self._extend("reasoning", delta.thinking)
        logprobs = [as_record(token) for token in delta.logprobs]
        if delta.thinking:
            self._has_thought, self._held = True, []
        if delta.text:
            logprobs = self._of_message(delta.text, self._held + logprobs)
            self._held = []
            yield from self._extend("message", delta.text, logprobs=logprobs)
            self._logprobs += logprobs
        else:
            self._held += logprobs
        for call in delta.tool_calls:
            yield from self._tool_call(call)

    def _of_message(self, text: str, logprobs: list[Record]) -> list[Record]:
        """Return the log probabilities of the message's next text, of those that nothing else had.

        Some of the others brought no text by themselves, such as a part of an emoji. Where a message begins, some are
        of thoughts or calls that came in the same delta, and of what ends these.
        """
        if self._item is not None and self._item["type"] == "message":
            return logprobs
        found = from_text(logprobs, text)
        if found is None and self._has_thought:
            return of_text(logprobs[::-1], len(text.encode()))[::-1]
        return found or logprobs

    def _extend(self, type: str, text: str, **fields: Any) -> Iterator[Record]:
        """Add text to the open item, or to a new one if no item of this type is open."""
        kind = KINDS[type]
        if self._item is None or self._item["type"] != type:
            yield from self._close("completed")
            self._item = {"id": self._item_id(kind.prefix), "type": type, kind.field: []}
            if type == "message":
                self._item |= {"role": "assistant", "status": "in_progress"}
            self._pieces, self._logprobs = [], []
            yield self._event("response.output_item.added", output_index=len(self._output), item=self._item)
            yield self._about(f"{kind.part}.added", part=_text_part(type, ""))
        self._pieces.append(text)
        yield self._about(f"{kind.text}.delta", delta=text, **fields)

    def _close(self, status: str) -> Iterator[Record]:
        """End the message or the reasoning that is open, if there is one."""
        if self._item is None:
            return
        name, text = self._item["type"], "".join(self._pieces)
        kind = KINDS[name]
        logprobs = {"logprobs": of_text(self._logprobs, len(text.encode()))} if name == "message" else {}
        part = _text_part(name, text) | logprobs
        yield self._about(f"{kind.text}.done", text=text, **logprobs)
        yield self._about(f"{kind.part}.done", part=part)
        item = self._item | {kind.field: [part]}
        if name == "message":
            item["status"] = status
        elif "reasoning.encrypted_content" in self._call.include:
            item["encrypted_content"] = text
        self._item = None
        yield self._done(item)

    def _cut(self) -> None:
        """Put what is open into the output, without its events."""
        unsent = list(self._close("incomplete"))
        self._sequence -= len(unsent)

    def _tool_call(self, call: Record) -> Iterator[Record]:
        yield from self._close("completed")
        tool = self._call.tools.offered.get(call["function"]["name"])
        prefix, record, field, events = call_item(call, tool, self._call.split_names)
        item = {"id": self._item_id(prefix), "status": "in_progress", **record}
        begun = item | {field: ""} if field else item
        yield self._event("response.output_item.added", output_index=len(self._output), item=begun)
        if field:
            place = {"item_id": item["id"], "output_index": len(self._output)}
            yield self._event(f"{events}.delta", **place, delta=item[field])
            yield self._event(f"{events}.done", **place, **{field: item[field]})
        yield self._done(item | {"status": "completed"})

    def _done(self, item: Record) -> Record:
        self._output.append(item)
        return self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _end(self, finished: Finished) -> Iterator[Record]:
        cut = finished.reason == "length"
        status = "incomplete" if cut else "completed"
        yield from self._close(status)
        self._ended = self._response(
            status,
            completed_at=None if cut else int(finished.ended / 1e9 or self._now()),
            incomplete_details={"reason": "max_output_tokens"} if cut else None,
            usage=_usage(finished),
        )

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._key}{len(self._output)}"

    def _about(self, type: str, **fields: Any) -> Record:
        """Return an event of the one part of the open item."""
        assert self._item is not None
        place = {KINDS[self._item["type"]].place: 0}
        return self._event(type, item_id=self._item["id"], output_index=len(self._output), **place, **fields)

    def _event(self, type: str, **fields: Any) -> Record:
        self._sequence += len(fields["delta"]) if self._call.background and type in _TEXT_DELTAS else 1
        return {"type": type, "sequence_number": self._sequence - 1, **fields}

    def response(self, status: str, error: ServiceError | None = None) -> Record:
        """Return the response so far, or the whole one if it has ended."""
        if self._ended is not None:
            return self._ended
        if status != "in_progress":
            self._cut()
        reason = None if error is None else {"code": error.code or "server_error", "message": error_message(error)}
        return self._response(status, error=reason)

    @property
    def has_begun(self) -> bool:
        return self._sequence > 0

    def _response(self, status: str, **fields: Any) -> Record:
        response: Record = {
            "id": f"resp_{self._key}",
            "object": "response",
            "created_at": self._created_at,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": list(self._output),
            "usage": None,
        }
        return response | fields | self._call.echo


def _text_part(type: str, text: str) -> Record:
    if type == "reasoning":
        return {"type": "summary_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(finished: Finished) -> Record:
    return {
        "input_tokens": finished.prompt_tokens,
        "input_tokens_details": {"cached_tokens": finished.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": finished.output_tokens,
        "output_tokens_details": {"reasoning_tokens": finished.thinking_tokens},
        "total_tokens": finished.prompt_tokens + finished.output_tokens,
    }
