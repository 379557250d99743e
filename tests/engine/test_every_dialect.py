"""Nothing that a model wrote is lost on its way to a client: vLLM's parsers, then every dialect, streamed or not.

The model is a script: its answers are real tokens of the demo's, cut at any limit, with stop strings of any length.
Needs vLLM, but starts no engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dialects.anthropic.answer import MessagesAnswer
from service.dialects.anthropic.request import parse_messages
from service.dialects.ollama.answer import OllamaChatAnswer
from service.dialects.ollama.request import parse_chat as parse_ollama
from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.responses_answer import ResponsesAnswer
from service.dialects.openai.responses_request import parse_responses
from service.protocol.events import Delta, Event, Finished
from tests.engine.test_answer_parser import FAMILIES, KINDS, MARKED, Answer, parse, raw_answer
from tests.support.asking import ADD, user

Record = dict[str, Any]
# A phrase whose beginnings never end an answer's text, cut to any length.
NEVER = "~Observation: nothing comes here~ " * 2


class Seen(NamedTuple):
    """What a client has of an answer."""

    thinking: str
    text: str
    calls: list[tuple[str, Record]]


def ollama(records: list[Record]) -> Seen:
    messages = [record["message"] for record in records]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    return Seen(
        "".join(message.get("thinking", "") for message in messages),
        "".join(message["content"] for message in messages),
        [(call["name"], call["arguments"]) for call in calls],
    )


def openai(records: list[Record]) -> Seen:
    choices = [choice for record in records for choice in record["choices"]]
    parts = [choice.get("delta", choice.get("message")) or {} for choice in choices]
    calls = [call["function"] for part in parts for call in part.get("tool_calls") or []]
    return Seen(
        "".join(part.get("reasoning") or "" for part in parts),
        "".join(part.get("content") or "" for part in parts),
        [(call["name"], json.loads(call["arguments"])) for call in calls],
    )


def responses(records: list[Record]) -> Seen:
    if "output" in records[0]:
        items = records[0]["output"]
    else:
        items = [record["item"] for record in records if record["type"] == "response.output_item.done"]
        # The pieces amount to the items, which a client may use instead.
        pieces = "".join(record["delta"] for record in records if record["type"] == "response.output_text.delta")
        assert pieces == texts(items, "message", "content")
    calls = [item for item in items if item["type"] == "function_call"]
    return Seen(
        texts(items, "reasoning", "summary"),
        texts(items, "message", "content"),
        [(call["name"], json.loads(call["arguments"])) for call in calls],
    )


def texts(items: list[Record], kind: str, field: str) -> str:
    return "".join(part["text"] for item in items if item["type"] == kind for part in item[field])


def anthropic(records: list[Record]) -> Seen:
    whole = records[0] if "content" in records[0] else joined(records)
    blocks = whole["content"]
    return Seen(
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
    )


def joined(events: list[Record]) -> Record:
    """The message of a stream, put together as a client does: by the index of each block."""
    blocks: dict[int, Record] = {}
    pieces: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        elif event["type"] == "content_block_delta":
            piece = next(
                (event["delta"][name] for name in ("text", "thinking", "partial_json") if name in event["delta"]), ""
            )
            pieces[event["index"]] = pieces.get(event["index"], "") + piece
    for index, block in blocks.items():
        kind = block["type"]
        block["input" if kind == "tool_use" else kind] = (
            json.loads(pieces[index]) if kind == "tool_use" else pieces.get(index, "")
        )
    return {"content": list(blocks.values())}


CHAT = {"model": "m", "messages": user("?"), "tools": [ADD]}
DIALECTS: dict[str, tuple[Callable[[], Any], Callable[[list[Record]], Seen]]] = {
    "Ollama": (lambda: OllamaChatAnswer(parse_ollama(CHAT)), ollama),
    "OpenAI chat": (lambda: ChatAnswer(parse_chat(CHAT)), openai),
    "OpenAI responses": (lambda: ResponsesAnswer(parse_responses({"model": "m", "input": "?"})), responses),
    "Anthropic": (lambda: MessagesAnswer(parse_messages({**CHAT, "tools": [], "max_tokens": 9})), anthropic),
}


def events_of(answer: Answer, cuts: list[int]) -> list[list[Event]]:
    """The answer as an engine sends it, its text in pieces of these lengths."""
    deltas: list[Event] = [Delta(1, 0, "", [1], thinking=answer.thinking)] if answer.thinking else []
    text = answer.text
    for cut in [*cuts, len(text)]:
        piece, text = text[:cut], text[cut:]
        deltas += [Delta(1, 0, piece, [1])] if piece else []
    calls = [{"id": f"call_{call['index']}", "function": call} for call in answer.calls]
    deltas += [Delta(1, 0, "", [1], tool_calls=[call]) for call in calls]
    return [[delta] for delta in deltas] + [[Finished(1, "stop", 3, 3, 0, 0, 0, 0, stop=answer.stop)]]


def plain(records: Any) -> Any:
    return json.loads(msgspec.json.encode(records))


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40)
@given(
    family=st.sampled_from(MARKED), kinds=KINDS, limit=st.integers(1, 200), length=st.integers(1, 64),
    cuts=st.lists(st.integers(1, 9), max_size=6),
)  # fmt: skip
def test_a_client_has_all_that_the_parser_found_streamed_or_not(
    dialect: str, family: str, kinds: list[str], limit: int, length: int, cuts: list[int]
):
    make, read = DIALECTS[dialect]
    raw, words = raw_answer(FAMILIES[family], kinds)
    answer = parse(FAMILIES[family], raw, limit=limit, stops=[NEVER[:length]], cuts=cuts)
    batches = events_of(answer, cuts)
    seen = read([plain(record) for batch in make().records(batches) for record in batch])
    collecting = make()
    assert read([plain(collecting.collect(collecting.records(batches)))]) == seen
    assert seen == Seen(answer.thinking, answer.text, [(call["name"], call["arguments"]) for call in answer.calls])
    # The stop string never comes, so that it takes nothing away, however long it is.
    assert answer == parse(FAMILIES[family], raw, limit=limit, cuts=cuts)
    assert all(call["arguments"] == {"a": 1234, "b": 5678} for call in answer.calls)
    assert limit < 200 or all(answer.holds(word) for word in words)
