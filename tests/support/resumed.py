"""Resumable streams, and what a client has of one that is cut."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.support.answers import NDJSON, SSE, chat, generate, text

WORDS = " ".join(f"w{number}" for number in range(20))
SCRIPT = f"!rate:60 !think:hm {WORDS}"
POSTS: dict[str, dict[str, Any]] = {
    "/api/chat": chat(SCRIPT),
    "/api/generate": generate(SCRIPT),
    "/v1/chat/completions": chat(SCRIPT, stream=True, stream_options={"include_usage": True}),
    "/v1/completions": {"model": "demo", "prompt": [SCRIPT, SCRIPT], "n": 2, "stream": True},
}


class Pieces:
    """What a client has of a stream: the records that came whole, and where it goes on."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.cursor = ""
        self.ended = False

    def read(self, answer: httpx.Response, at_most: int) -> None:
        """Read up to `at_most` bytes and drop a record that was cut. Raises TransportError where the server cuts it."""
        data = b""
        try:
            for chunk in answer.iter_raw():
                data += chunk[: at_most - len(data)]
                if len(data) >= at_most:
                    break
        finally:
            self.take(data, NDJSON if answer.headers["Content-Type"] == NDJSON else SSE)

    def take(self, data: bytes, media_type: str) -> None:
        if media_type == NDJSON:
            for line in data.split(b"\n")[:-1]:
                record = json.loads(line)
                self._add(record.pop("cursor"), record)
            return
        for frame in data.split(b"\n\n")[:-1]:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                done = fields[b"data"] == b"[DONE]"
                self._add(fields[b"id"].decode(), None if done else json.loads(fields[b"data"]))

    def _add(self, cursor: str, record: Any) -> None:
        assert not self.ended, record
        self.cursor = cursor
        self.ended = cursor.endswith(".end")
        if record is not None:
            self.records.append(record)

    def said(self) -> Any:
        if "choices" not in self.records[0]:
            return text(self.records), [record["done"] for record in self.records].count(True)
        texts: dict[int, str] = {}
        for choice in (choice for record in self.records for choice in record["choices"]):
            told = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            texts[choice["index"]] = texts.get(choice["index"], "") + told + (choice["finish_reason"] or "")
        return texts, [record["usage"] for record in self.records if record.get("usage")]


def post(client: httpx.Client, path: str, at_most: int = 10**9, accept: str = "", **fields: Any) -> tuple[Pieces, str]:
    """Ask for a resumable stream and leave after `at_most` bytes. Return what came, and the stream's address."""
    pieces = Pieces()
    body = POSTS[path] | {"resumable": True} | fields
    with client.stream("POST", path, json=body, headers={"Accept": accept or "*/*"}) as answer:
        assert answer.status_code == 200, answer.read()
        pieces.read(answer, at_most)
    return pieces, answer.headers["Content-Location"]


def resume(client: httpx.Client, url: str, pieces: Pieces, at_most: int = 10**9, accept: str = "") -> None:
    with client.stream("GET", url, headers={"Accept": accept or "*/*", "Last-Event-ID": pieces.cursor}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Location"] == url
        pieces.read(answer, at_most)
