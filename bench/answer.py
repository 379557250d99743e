"""Reads what a client received of one answer. In: pieces of bytes with their times. Out: arrivals of text.

Runs after the measurement, so that strict checks cost it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

Piece = tuple[float, bytes]


class Broken(Exception):
    """The answer is not the one that was asked for."""


class Arrival(NamedTuple):
    """A piece with text; `at` is in seconds."""

    at: float
    text: str


class Answer(NamedTuple):
    """A whole answer; `tokens` is the server's own count."""

    arrivals: list[Arrival]
    tokens: int
    prompt_tokens: int


def read(pieces: Iterable[Piece], dialect: str) -> Answer:
    """Return a whole answer. Raises Broken when it failed, was cut off, or ended more than once."""
    arrivals, ends = [], []
    for at, records in _records(pieces):
        texts, last = zip(*(DIALECTS[dialect](record) for record in records), strict=True)
        if any(texts):
            arrivals.append(Arrival(at, "".join(texts)))
        ends += [end for end in last if end]
    if len(ends) != 1:
        raise Broken(f"{len(ends)} terminal records")
    return Answer(arrivals, *ends[0])


def arrivals(pieces: Iterable[Piece], dialect: str) -> list[Arrival]:
    """Return the arrivals of an answer that may not have ended."""
    read_record = DIALECTS[dialect]
    texts = ((at, "".join(read_record(record)[0] for record in records)) for at, records in _records(pieces))
    return [Arrival(at, text) for at, text in texts if text]


End = tuple[int, int]


def _ollama(record: dict[str, Any]) -> tuple[str, End | None]:
    """Return a record's text and, in the last record, the tokens of answer and prompt."""
    if "error" in record:
        raise Broken(record["error"])
    end = (record["eval_count"], record["prompt_eval_count"]) if record["done"] else None
    return record["message"]["content"], end


def _openai(record: dict[str, Any]) -> tuple[str, End | None]:
    if "error" in record:
        raise Broken(str(record["error"]))
    usage = record.get("usage")
    end = (usage["completion_tokens"], usage["prompt_tokens"]) if usage else None
    return "".join(choice["delta"].get("content") or "" for choice in record["choices"]), end


DIALECTS: dict[str, Callable[[dict[str, Any]], tuple[str, End | None]]] = {"ollama": _ollama, "openai": _openai}


def _records(pieces: Iterable[Piece]) -> Iterable[tuple[float, list[dict[str, Any]]]]:
    """Return the records that each piece completed, with its time; pieces that complete none are left out."""
    body, rest = Chunks(), b""
    for at, piece in pieces:
        *lines, rest = (rest + body.feed(piece)).split(b"\n")
        records = [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines if _is_record(line)]
        if records:
            yield at, records


def _is_record(line: bytes) -> bool:
    """Return whether a line is a record: not the blank line behind an event, a comment, or OpenAI's `[DONE]`."""
    return bool(line.strip()) and not line.startswith(b":") and line != b"data: [DONE]"


class Chunks:
    """Reads the body of a chunked HTTP/1.1 answer (RFC 9112 §7.1), which may be cut anywhere."""

    def __init__(self) -> None:
        self._buffer = b""
        self._in_body = False

    def feed(self, data: bytes) -> bytes:
        """Return what the data adds to the body. Raises Broken when the status is not 200."""
        self._buffer += data
        if not self._in_body and not self._skip_head():
            return b""
        parts, start = [], 0
        while (line_end := self._buffer.find(b"\r\n", start)) >= 0:
            begin = line_end + 2
            end = begin + int(self._buffer[start:line_end], 16)
            if len(self._buffer) < end + 2:
                break
            parts.append(self._buffer[begin:end])
            start = end + 2
        self._buffer = self._buffer[start:]
        return b"".join(parts)

    def _skip_head(self) -> bool:
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return False
        if head.split(b" ", 2)[1] != b"200":
            raise Broken(self._buffer.decode(errors="replace"))
        self._in_body, self._buffer = True, rest
        return True
