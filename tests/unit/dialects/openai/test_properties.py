"""Whatever a client sends to OpenAI's routes becomes a request that can be passed on, or a BadRequest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dialects.json_body import parse_json
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions import parse_completion
from service.dialects.openai.embeddings import parse_embeddings
from service.errors import BadRequest
from service.protocol.commands import Embed, Submit
from service.protocol.request import EmbedRequest, Request
from service.protocol.wire import decode_command, pack

texts = st.text(max_size=8) | st.sampled_from(
    ["user", "auto", "text", "function", "low", "json_schema", "data:;base64,"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
names = texts | st.sampled_from(
    ["type", "function", "name", "content", "role", "text", "image_url", "url", "arguments"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)


def bodies(*fields: str, **given: Any) -> st.SearchStrategy[dict[str, Any]]:
    optional = dict.fromkeys(fields, values)
    return st.fixed_dictionaries({name: st.just(value) for name, value in given.items()}, optional=optional)


COMMON = (
    "stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "seed", "stop", "logit_bias", "logprobs", "top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids",
    "ignore_eos",
)  # fmt: skip
CHAT = (
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning", "reasoning_effort", "top_logprobs",
    "chat_template_kwargs", "max_completion_tokens",
)  # fmt: skip
MESSAGES = [{"role": "user", "content": "a"}]


def is_passed_on_or_refused(parse: Callable[[dict[str, Any]], Any], struct: str, body: dict[str, Any]) -> bool:
    """Whether each request comes out of the queue as it went in, or the body is refused with a reason."""
    try:
        call = parse(parse_json(json.dumps(body).encode(), struct))
    except BadRequest as error:
        return bool(error.message)
    return all(map(_crosses_the_queue, getattr(call, "requests", None) or [call.request]))


def _crosses_the_queue(request: Request | EmbedRequest) -> bool:
    command = Submit(1, request) if isinstance(request, Request) else Embed(1, request)
    return decode_command(pack(command)[4:]) == command


@given(body=bodies("messages", "tools", model="m"), turns=st.lists(st.dictionaries(names, values), max_size=2))
def test_a_chats_messages(body: dict[str, Any], turns: list[Any]):
    assert is_passed_on_or_refused(parse_chat, "openai.ChatCompletionRequest", body)
    assert is_passed_on_or_refused(parse_chat, "openai.ChatCompletionRequest", {**body, "messages": turns})


@given(body=bodies(*COMMON, "prompt", "suffix", "echo", "best_of", model="m"))
def test_a_completion(body: dict[str, Any]):
    assert is_passed_on_or_refused(parse_completion, "openai.CompletionRequest", body)


@given(body=bodies("input", "dimensions", "encoding_format", model="m"))
def test_embeddings(body: dict[str, Any]):
    assert is_passed_on_or_refused(parse_embeddings, "openai.EmbedRequest", body)


@pytest.mark.parametrize("field", [*COMMON, *CHAT, "messages"])
@settings(max_examples=25)
@given(value=values)
def test_each_field_of_a_chat(field: str, value: Any):
    assert is_passed_on_or_refused(
        parse_chat, "openai.ChatCompletionRequest", {"model": "m", "messages": MESSAGES, field: value}
    )
