"""Streams of the other dialects, and of OpenAI's, for a real engine: what is asked, and what was said."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import httpx

from tests.support.asking import WEATHER, user

STORY = "Tell me a long story"
SAMPLED: dict[str, Any] = {"stream": True, "seed": 11, "temperature": 0.9, "max_tokens": 400}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
# Those that can be resumed: the path, and the body.
OPENAI: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED, "logprobs": True}),
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED, "n": 2}),
    ("/v1/chat/completions", {"messages": user(STORY), **SAMPLED, "tools": [WEATHER], **THINKING}),
    ("/v1/completions", {"prompt": "Once", **SAMPLED, "stop": ["never said"]}),
]
RESPONSE: dict[str, Any] = {"input": STORY, "stream": True, "temperature": 0, "max_output_tokens": 400}
MESSAGE: dict[str, Any] = {"messages": user(STORY), "stream": True, "temperature": 0, "max_tokens": 400}
OTHERS = [*OPENAI, ("/v1/responses", RESPONSE), ("/v1/messages", MESSAGE)]
# Where the events hold what was said; everything else in them is a stamp, an id or a frame.
SPOKEN = ("content", "text", "delta", "thinking", "reasoning_content", "arguments", "partial_json", "finish_reason")


def ask(url: str, path: str, body: dict[str, Any], seconds: float) -> Any:
    """Return what a whole stream said."""
    text = httpx.post(f"{url}{path}", json={"model": "demo", **body}, timeout=seconds).text
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events.count("[DONE]") == path.endswith("completions")
    return said([json.loads(event) for event in events if event != "[DONE]"])


def said(events: list[dict[str, Any]]) -> Any:
    """Return what was said in all, by answer, and the type of the last event."""
    assert not any("error" in event for event in events), events[-1]
    by_answer: dict[int, list[str]] = defaultdict(lambda: ["", "", ""])
    for event in events:
        # An event that repeats the whole answer adds nothing.
        for part in event.get("choices", [event] if "delta" in event else []):
            logprobs = (part.get("logprobs") or {}).get("content") or []
            news = spoken(part.get("delta", part.get("text")), "text"), part.get("finish_reason") or ""
            for place, new in enumerate((*news, "".join(each["token"] for each in logprobs))):
                by_answer[part.get("index", 0)][place] += new
    return dict(by_answer), events[-1].get("type", "")


def spoken(value: Any, key: str = "") -> str:
    """Return what the leaves of an event say, in their order."""
    if isinstance(value, dict):
        return "".join(spoken(each, name) for name, each in value.items())
    if isinstance(value, list):
        return "".join(spoken(each, key) for each in value)
    return str(value) if key in SPOKEN and value is not None else ""
