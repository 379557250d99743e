"""A request that brings too much of something: a 400 in its dialect's shape, which names the field and the bound."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

USER = [{"role": "user", "content": "a"}]
STOPS = ["x"] * 129
TOOL = {"type": "function", "function": {"name": "a"}}
SCHEMA = {"enum": ["x" * 1024] * 1024}


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        ("/api/chat", {"messages": USER * 10_001}, "messages may hold at most 10000 values"),
        ("/api/chat", {"messages": USER, "tools": [TOOL] * 1025}, "tools may hold at most 1024 values"),
        ("/api/chat", {"messages": USER, "format": SCHEMA}, "the JSON schema may have at most"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["aaaa"] * 501}]}, "at most 500 images"),
        ("/api/generate", {"prompt": "a", "options": {"stop": STOPS}}, "options.stop may hold at most 128 values"),
        ("/api/generate", {"prompt": "a", "images": ["aaaa"] * 501}, "images may hold at most 500 values"),
        ("/api/embed", {"input": ["a"] * 10_001}, "input may hold at most 10000 values"),
        ("/v1/chat/completions", {"messages": USER, "stop": STOPS}, "stop may hold at most 128 values"),
        ("/v1/chat/completions", {"messages": USER, "n": 128, "logprobs": True, "top_logprobs": 20}, "at most 400"),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": [1] * 1025}, "stop_token_ids may hold at most 1024"),
        ("/v1/completions", {"prompt": ["a"] * 9, "n": 128}, "at most 1024 prompts times n"),
        (
            "/v1/completions",
            {"prompt": ["a " * 200] * 8, "n": 8, "echo": True, "logprobs": 20},
            "with echo and logprobs it may have 195",
        ),
        (
            "/v1/completions",
            {"prompt": ["a"] * 4, "n": 4, "logprobs": 4, "max_tokens": 3277},
            "may have at most 3276 tokens, and 3277 are asked for: VLLM_WSGI_MAX_LOGPROBS allows 262144",
        ),
        (
            "/v1/responses",
            {
                "input": "a",
                "stream": True,
                "max_output_tokens": 12_484,
                "top_logprobs": 20,
                "include": ["message.output_text.logprobs"],
            },
            "may have at most 12483 tokens",
        ),
        (
            "/api/chat",
            {
                "messages": USER,
                "stream": False,
                "logprobs": True,
                "top_logprobs": 20,
                "options": {"num_predict": 12_484},
            },
            "may have at most 12483 tokens",
        ),
        (
            "/v1/chat/completions",
            {"messages": USER, "stream": True, "resumable": True, "logprobs": True, "max_tokens": 262_145},
            "may have at most 262144 tokens",
        ),
        (
            "/v1/completions",
            {"prompt": ["a"] * 1024, "allowed_token_ids": [7] * 131_072},
            "times the 1024 answers, may have at most 16777216 bytes",
        ),
        (
            "/v1/responses",
            {"input": "a", "tools": [{"type": "namespace", "name": "a", "tools": [TOOL] * 1024}]},
            "tools may hold at most 1024 values, and holds 1025",
        ),
        ("/v1/responses", {"input": USER * 10_001}, "input may hold at most 10000 values"),
        ("/v1/embeddings", {"input": ["a"] * 10_001}, "input may hold at most 10000 values"),
        ("/v1/messages", {"messages": USER, "max_tokens": 1, "stop_sequences": STOPS}, "stop_sequences may hold"),
    ],
)
def test_a_bound_that_is_exceeded_is_named(client: httpx.Client, path: str, fields: dict[str, Any], sentence: str):
    answer = client.post(path, json={"model": "demo", **fields})
    assert answer.status_code == 400
    error = answer.json()["error"]
    message = error if path.startswith("/api") else error["message"]
    assert sentence in message
    if path.startswith("/v1") and path != "/v1/messages":
        assert error["type"] == "invalid_request_error"


def test_openais_clients_are_sent_the_parameter_and_its_code(client: httpx.Client):
    body = {"model": "demo", "messages": USER, "logit_bias": dict.fromkeys(map(str, range(1025)), 1)}
    error = client.post("/v1/chat/completions", json=body).json()["error"]
    assert (error["param"], error["code"]) == ("logit_bias", "object_above_max_properties")


def test_a_conversation_that_is_as_long_as_it_may_be_is_answered(client: httpx.Client):
    answer = client.post("/api/chat", json={"model": "demo", "messages": USER * 10_000, "stream": False})
    assert (answer.status_code, answer.json()["message"]["content"]) == (200, "a ")


@pytest.mark.parametrize(("stream", "tokens", "reason"), [(False, 12_483, "length"), (True, 13_000, "stop")])
def test_a_whole_answer_ends_where_its_log_probabilities_do(
    client: httpx.Client, stream: bool, tokens: int, reason: str
):
    body = {"model": "demo", "prompt": "!repeat:13000:a", "raw": True, "logprobs": True, "top_logprobs": 20}
    answer = client.post("/api/generate", json={**body, "stream": stream})
    records = [json.loads(line) for line in answer.text.splitlines()]
    assert sum(len(record.get("logprobs", [])) for record in records) == tokens
    assert (records[-1]["eval_count"], records[-1]["done_reason"]) == (tokens, reason)
