"""A client with a key that wants the server for itself: `python -m tests.hostile.attacker URL KEY SECONDS SEED`.

It sends requests of every kind, with sizes drawn at random up to the longest body, each on a connection of its own, and
leaves many of them before they are answered. It is a process of its own, so that its work holds up nobody who measures.
HOSTILE_KINDS, a comma list, leaves only these kinds. Prints which kind got which status, as JSON; the exit status is 1
when one of them is the server's mistake.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

MAX_BODY = 32 * 1024 * 1024
CLIENTS = 3
# What a model that does not embed, a full queue, a deadline and a server that is drained answer. Other answers from 500
# on are mistakes.
MEANT = (501, 503, 504)
MISTAKE = "the server's mistake"

Body = dict[str, Any]
Kind = Callable[[int, random.Random], tuple[str, Body]]


def chat(content: Any = "a", **fields: Any) -> tuple[str, Body]:
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": content}], "max_tokens": 4, **fields}


def schema(value: Any) -> tuple[str, Body]:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": value}})


def words(size: int) -> str:
    return "word " * (size // 5)


def nested(size: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(min(90, size // 40)):
        value = {"type": "object", "properties": {"a": value}}
    return value


def tools(count: int, size: int) -> list[Body]:
    properties = {f"p{number}": {"type": "string", "description": "x" * 20} for number in range(size)}
    parameters = {"type": "object", "properties": properties}
    return [
        {"type": "function", "function": {"name": f"t{number}", "parameters": parameters}} for number in range(count)
    ]


def names(size: int, most: int = 200_000) -> list[str]:
    return [f"name{number}" for number in range(min(most, size // 12))]


def messages(size: int, length: int) -> list[Body]:
    count = max(1, size // (length + 40))
    return [{"role": ("user", "assistant")[number % 2], "content": words(length)} for number in range(count)]


def calls(size: int) -> list[Body]:
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": json.dumps({"a": "b" * 200})}}
    return [{"role": "assistant", "tool_calls": [call] * (size // 300)}, {"role": "user", "content": "a"}]


KINDS: dict[str, Kind] = {
    "raw text": lambda size, _: ("/api/generate", {"prompt": words(size), "raw": True}),
    "one word": lambda size, _: ("/api/generate", {"prompt": "a" * size, "raw": True}),
    "Korean": lambda size, _: ("/api/generate", {"prompt": "\ud55c\uad6d " * (size // 7)}),
    "a template": lambda size, _: (
        "/api/generate", {"prompt": "a " * (size // 2), "template": "{{.Prompt}}" * (size % 1200)}
    ),
    "a long template": lambda size, _: ("/api/generate", {"prompt": "a", "template": "{{.Prompt}}" * (size // 11)}),
    "a nested template": lambda size, _: (
        "/api/generate", {"prompt": "a", "template": "{{if .Prompt}}" * (size // 21) + "{{end}}" * (size // 21)}
    ),
    "a suffix": lambda size, _: ("/api/generate", {"prompt": words(size // 2), "suffix": words(size // 2)}),
    "a context": lambda size, _: ("/api/generate", {"prompt": "a", "context": [5] * (size // 3)}),
    "a system message": lambda size, _: ("/api/generate", {"prompt": "a", "system": words(size)}),
    "one message": lambda size, _: chat(words(size)),
    "thinking": lambda size, _: ("/api/chat", {"messages": [{"role": "assistant", "thinking": words(size)}]}),
    "short messages": lambda size, _: ("/api/chat", {"messages": messages(size, 5)}),
    "long messages": lambda size, _: ("/v1/chat/completions", {"messages": messages(size, 400), "max_tokens": 2}),
    "tool results": lambda size, _: ("/v1/messages", {"max_tokens": 2, "messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}] * (size // 60 % 39_000)}
    ]}),
    "parts": lambda size, _: chat([{"type": "text", "text": "a"}] * (size // 30)),
    "earlier calls": lambda size, _: ("/v1/chat/completions", {"messages": calls(size), "max_tokens": 2}),
    "items": lambda size, _: ("/v1/responses", {"input": messages(size, 20), "max_output_tokens": 2}),
    "blocks": lambda size, _: ("/v1/messages", {"messages": messages(size, 50), "max_tokens": 2}),
    "calls and outputs": lambda size, _: ("/v1/responses", {"max_output_tokens": 2, "input": [
        {"type": "function_call", "call_id": "a", "name": "b", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "a", "output": "c"},
    ] * (size // 150 % 5_100)}),
    "counting": lambda size, _: ("/v1/messages/count_tokens", {"messages": messages(size, 2000)}),
    "counting one text": lambda size, _: (
        "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": words(size)}]}
    ),
    "counting items": lambda size, _: ("/v1/responses/input_tokens", {"input": messages(size, 2000)}),
    "options": lambda size, _: ("/api/generate", {"prompt": "a", "options": dict.fromkeys(names(size), 1)}),
    "names of halves": lambda size, _: (
        "/api/generate", {"prompt": "a", "options": dict.fromkeys((f"{name}\ud800" for name in names(size)), 1)}
    ),
    "names of whole ones": lambda size, _: (
        "/api/generate", {"prompt": "a", "options": dict.fromkeys((f"{name}\U0001f600" for name in names(size)), 1)}
    ),
    "prompts": lambda size, _: ("/v1/completions", {"prompt": ["a"] * (size // 5), "max_tokens": 1}),
    "prompts with one long parameter": lambda size, draw: (
        "/v1/completions",
        {"prompt": ["a"] * draw.randrange(1, 1100), "max_tokens": 1, **draw.choice([
            {"allowed_token_ids": [7] * (size // 3 % 140_000)},
            {"structured_outputs": {"choice": names(size)}},
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": names(size, 1100)}}}},
        ])},
    ),
    "token ids": lambda size, draw: (
        "/v1/completions", {"prompt": [draw.randrange(900)] * (size // 4), "max_tokens": 1, "echo": True, "logprobs": 5}
    ),
    "scored prompts": lambda size, draw: (
        "/v1/completions",
        {"prompt": [words(size // 9 % 12_000)] * draw.randrange(1, 9), "n": draw.randrange(1, 9), "max_tokens": 1,
         "echo": True, "logprobs": draw.randrange(21)},
    ),
    "an enum": lambda size, _: schema({"enum": names(size)}),
    "properties": lambda size, _: schema({"type": "object", "properties": {key: {} for key in names(size, 30_000)}}),
    "required properties": lambda size, draw: schema(
        {"type": "object", "required": (keys := names(size % draw.choice([9_000, 30_000]) + 24)),
         "properties": {key: {"type": "integer"} for key in keys}}
    ),
    "a deep schema": lambda size, _: schema(nested(size)),
    "a schema of itself": lambda size, draw: schema(
        {"$defs": {name: {"anyOf": [{"$ref": "#"}, {"$ref": f"#/$defs/{name}"}]} for name in names(size % 4000 + 12)},
         "type": "object", "properties": {f"p{draw.random()}": {"$ref": "#"}}}
    ),
    "a pattern": lambda size, draw: chat(
        structured_outputs={"regex": f"([a-z]{{1,{draw.randrange(1, 120)}}}|{draw.random()})*" * (1 + size % 40)}
    ),
    "a grammar": lambda size, _: chat(
        structured_outputs={"grammar": "root ::= " + " | ".join(f'"{name}"' for name in names(size))}
    ),
    "choices": lambda size, _: chat(structured_outputs={"choice": names(size)}),
    "a format": lambda size, _: (
        "/api/generate", {"prompt": "a", "format": {"enum": names(size, 1100)}, "options": {"num_predict": 2}}
    ),
    "alternatives": lambda _, draw: chat(
        n=(n := draw.randrange(1, 129)), logprobs=True, top_logprobs=min(20, 400 // n)
    ),
    "whole log probabilities": lambda _, draw: ("/v1/completions", {
        "prompt": "a", "n": (n := draw.randrange(1, 20)), "logprobs": 20, "max_tokens": draw.randrange(1, 25_000 // n),
    }),
    "kept log probabilities": lambda _, draw: chat(
        stream=True, resumable=True, background=True, n=(n := draw.randrange(1, 20)), logprobs=True, top_logprobs=20,
        max_tokens=draw.randrange(1, 25_000 // n),
    ),
    "answers": lambda _, draw: chat(n=draw.randrange(1, 129)),
    "stop texts": lambda size, _: chat(stop=names(size)),
    "long stop texts": lambda size, draw: chat(stop=["x" * (size // 128 % 1200)] * draw.randrange(1, 129)),
    "stop texts of many answers": lambda size, draw: chat(
        words(400), n=draw.randrange(1, 129), stop=["word " * (size % 200) + str(number) for number in range(128)]
    ),
    "biases": lambda size, _: chat(logit_bias=dict.fromkeys(map(str, range(min(size // 10, 100_000))), 1)),
    "stop ids": lambda size, _: chat(stop_token_ids=list(range(size // 7))),
    "allowed ids": lambda size, _: chat(allowed_token_ids=[7] * (size // 3)),
    "bad words": lambda size, _: chat(bad_words=names(size)),
    "tools": lambda size, draw: chat(tools=tools(draw.randrange(1, 200), size // 20_000 % 200)),
    "a forced call": lambda size, draw: chat(
        tools=tools(draw.randrange(1, 40), size // 20_000 % 40), tool_choice="required"
    ),
    "tools in a namespace": lambda size, _: ("/v1/responses", {
        "input": "a", "max_output_tokens": 2,
        "tools": [{"type": "namespace", "name": "a", "tools": [
            {"type": "function", "name": name} for name in names(size, 19_000)
        ]}],
        "tool_choice": {"type": "allowed_tools", "tools": [
            {"type": "function", "name": name} for name in names(size, 19_000)
        ]},
    }),
    "a stored response": lambda size, _: (
        "/v1/responses", {"input": messages(size, 20), "max_output_tokens": 2, "store": True, "truncation": "auto"}
    ),
    "references": lambda size, draw: ("/v1/responses", {"max_output_tokens": 2, "input": [
        {"type": "item_reference", "id": f"msg_{draw.getrandbits(96):024x}{number}"} for number in range(size % 110)
    ]}),
    "streams in the background": lambda size, _: (
        "/api/chat", {"messages": messages(size, 20)[:100], "background": True, "options": {"num_predict": 8}}
    ),
    "a long tool": lambda size, _: chat(
        tools=[{"type": "function", "function": {"name": "a", "description": words(size)}}]
    ),
    "template arguments": lambda size, _: chat(documents=[{"title": "a", "text": words(size)}]),
    "texts to embed": lambda size, _: ("/api/embed", {"input": ["a"] * (size // 4)}),
    "images": lambda size, _: ("/api/chat", {"messages": [{"role": "user", "images": ["AAAA"] * (size // 7)}]}),
    "an image": lambda size, _: ("/api/generate", {"prompt": "a", "images": [b64encode(bytes(size // 2)).decode()]}),
    "what would be sent": lambda size, _: (
        "/api/chat", {"messages": messages(size, 100), "_debug_render_only": True, "stream": False}
    ),
    "a model's files": lambda _, __: ("/api/show", {"verbose": True}),
}  # fmt: skip


def draw_size(draw: random.Random) -> int:
    """As often small as large: up to the body's limit, evenly in the number of digits."""
    return int(10 ** draw.uniform(2, 7.5)) if draw.random() < 0.8 else draw.randrange(MAX_BODY)


def attack(url: str, key: str, ends_at: float, seed: int, statuses: Counter[str]) -> None:
    draw, kinds = random.Random(seed), os.environ.get("HOSTILE_KINDS", ",".join(KINDS)).split(",")
    while time.monotonic() < ends_at:
        name = draw.choice(kinds)
        path, fields = KINDS[name](draw_size(draw), draw)
        content = json.dumps({"model": "demo", **fields}).encode()[:MAX_BODY]
        # The longer ones are left early as often as not: the work must not go on without its client.
        patience = draw.choice([0.3, 2.0, 20.0])
        try:
            answer = httpx.post(f"{url}{path}", content=content, headers={"x-api-key": key}, timeout=patience)
            outcome = str(answer.status_code)
            if answer.status_code >= 500 and answer.status_code not in MEANT:
                outcome = f"{outcome}, {MISTAKE}: {seed} {len(content)} {answer.text[:200]}"
        except httpx.TimeoutException:
            outcome = "left"
        except httpx.TransportError as error:
            outcome = type(error).__name__
        statuses[f"{name}: {outcome}"] += 1


def main() -> None:
    url, key, seconds, seed = sys.argv[1:]
    ends_at, statuses = time.monotonic() + float(seconds), Counter[str]()
    threads = [
        threading.Thread(target=attack, args=(url, key, ends_at, int(seed) + number, statuses))
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(statuses))
    sys.exit(any(MISTAKE in each for each in statuses))


if __name__ == "__main__":
    main()
