"""What a scripted engine is asked, and how the records of its answers are read."""

from __future__ import annotations

import json
from typing import Any

NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def chat(script: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a chat whose answer is what `script` plays."""
    return {"model": "demo", "messages": [{"role": "user", "content": script}], **fields}


def generate(script: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a generation whose answer is what `script` plays."""
    return {"model": "demo", "prompt": script, **fields}


def parse(body: bytes, media_type: str) -> list[dict[str, Any]]:
    """Return the records of a whole stream. Fails on anything between them."""
    if media_type == NDJSON:
        return [json.loads(line) for line in body.decode().removesuffix("\n").split("\n")]
    frames = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def text(records: list[dict[str, Any]]) -> str:
    """Return the text of a chat's or a generation's records."""
    return "".join(each["message"]["content"] if "message" in each else each.get("response", "") for each in records)


def terminal(record: dict[str, Any]) -> bool:
    return record.get("done") is True or "error" in record
