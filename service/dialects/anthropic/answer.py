"""Turn the engine's events into the message, the stream events and the errors of Anthropic's Messages API.

It never knows how its records are framed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import msgspec

from ...errors import PromptTooLong, ServiceError
from ...protocol.events import Delta, Event, Finished, Located
from .. import answer
from ..answer import Record
from .request import MessagesCall

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# The field that holds the text of each type of delta.
PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def error_record(error: ServiceError) -> Record:
    """Return the last record of a stream that failed. It is the body of an error answer too, with the request's id."""
    kind = error_type(error.status)
    return {"type": "error", "error": {"type": kind, "message": error_message(error)}}


def error_type(status: int) -> str:
    """Return Anthropic's `type` of an error; a 4xx without a type of its own is `invalid_request_error`."""
    return ERROR_TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


def error_message(error: ServiceError) -> str:
    """Return the text of an error. Claude Code compacts a conversation when it reads Anthropic's sentence."""
    if not isinstance(error, PromptTooLong) or not error.tokens:
        # Its records have no field for a parameter. Go's words name the field of a list item, and not the item.
        is_hidden = "[" in (error.param or "") and str(error.param) not in error.message
        return f"{error.message} ({error.param})" if is_hidden else error.message
    # A prompt that fills the context leaves no room for an answer, so it is too long by one token.
    maximum = min(error.limit, error.tokens - 1)
    return f"prompt is too long: {error.tokens} tokens > {maximum} maximum"


class MessagesAnswer(answer.Answer):
    """The events of a message's stream, or the message. Its id is made from `key`, which is random by default.

    `most_tokens` is the limit of the client's key for an answer, 0 without one.
    """

    verb = "chat"

    def __init__(self, call: MessagesCall, key: str = "", most_tokens: int = 0) -> None:
        super().__init__(call.model)
        self._id = f"msg_{key or secrets.token_hex(12)}"
        self._show_thinking = call.show_thinking
        asked = call.request.sampling.max_tokens or 0
        self._most_tokens = min(asked, most_tokens or asked)
        self._started = False
        self._index = -1
        self._open = ""
        self._called = False

    def failure(self, error: ServiceError) -> Record:
        return error_record(error)

    def _join(self, records: list[Record]) -> Record:
        message: Record = {}
        pieces: list[str] = []
        for record in records:
            kind = record["type"]
            if kind == "message_start":
                message = record["message"]
            elif kind == "content_block_start":
                message["content"].append(record["content_block"])
                pieces = []
            elif kind == "content_block_delta":
                pieces.append(record["delta"].get(PIECES.get(record["delta"]["type"]), ""))
            elif kind == "content_block_stop":
                _complete(message["content"][-1], "".join(pieces), self._id)
            elif kind == "message_delta":
                message |= record["delta"]
                message["usage"] |= record["usage"]
        return message

    def _records(self, event: Event) -> Iterator[Record]:
        if isinstance(event, Located):
            self.located(event)
        elif isinstance(event, Delta):
            yield from self._start(event.prompt_tokens)
            yield from self._blocks(event)
        elif isinstance(event, Finished):
            yield from self._start(event.prompt_tokens)
            yield from self._close()
            yield self._end(event)
            yield {"type": "message_stop"}

    def _start(self, prompt_tokens: int) -> Iterator[Record]:
        """Begin the message, unless it has begun."""
        if self._started:
            return
        self._started = True
        message: Record = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": prompt_tokens, "output_tokens": 0},
        }
        yield {"type": "message_start", "message": message}

    def _blocks(self, delta: Delta) -> Iterator[Record]:
        if delta.thinking:
            yield from self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            if self._show_thinking:
                yield self._delta({"type": "thinking_delta", "thinking": delta.thinking})
        if delta.text:
            yield from self._enter("text", {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": delta.text})
        for call in delta.tool_calls:
            self._called = True
            yield from self._close()
            function = call["function"]
            yield from self._enter(
                "tool", {"type": "tool_use", "id": call["id"], "name": function["name"], "input": {}}
            )
            arguments = msgspec.json.encode(function["arguments"]).decode()
            yield self._delta({"type": "input_json_delta", "partial_json": arguments})

    def _enter(self, kind: str, block: Record) -> Iterator[Record]:
        """Open a block, unless one of this kind is open."""
        if self._open == kind:
            return
        yield from self._close()
        self._open = kind
        self._index += 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _close(self) -> Iterator[Record]:
        if self._open == "thinking":
            # Clients send the signature back with the thinking. This server does not check it.
            yield self._delta({"type": "signature_delta", "signature": self._id})
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": self._index}

    def _delta(self, delta: Record) -> Record:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _end(self, finished: Finished) -> Record:
        """Return the end of the message. As Anthropic counts them, `input_tokens` are those that were not cached."""
        usage = {
            "input_tokens": finished.prompt_tokens - finished.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": finished.cached_tokens,
            "output_tokens": finished.output_tokens,
            "output_tokens_details": {"thinking_tokens": finished.thinking_tokens},
        }
        reason = self._stop_reason(finished)
        stop = finished.stop if reason == "stop_sequence" else None
        delta = {"stop_reason": reason, "stop_sequence": stop}
        return {"type": "message_delta", "delta": delta, "usage": usage}

    def _stop_reason(self, finished: Finished) -> str:
        """Return why the message ended. The reason of one that was cut off is the limit, also after a tool call.

        An answer that is shorter than its limits has filled the model's context.
        """
        if finished.reason == "length":
            is_full = finished.output_tokens < self._most_tokens
            return "model_context_window_exceeded" if is_full else "max_tokens"
        if self._called:
            return "tool_use"
        return "stop_sequence" if finished.stop else "end_turn"


def _complete(block: Record, text: str, signature: str) -> None:
    kind = block["type"]
    if kind == "tool_use":
        block["input"] = msgspec.json.decode(text)
    else:
        block[kind] = text
    if kind == "thinking":
        block["signature"] = signature
