"""vLLM's request models are the list of its fields: each one is in our table, or is OpenAI's or Anthropic's own."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.pooling.embed.protocol import EmbeddingChatRequest, EmbeddingCompletionRequest

from service.dialects.vllm_fields import ROUTES

# What the APIs' own references have, and the dialects read.
SHARED = {"model", "stream", "temperature", "top_p", "tools", "tool_choice"}
OPENAI = {
    "stream_options", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "max_tokens", "n", "seed",
    "stop",
}  # fmt: skip
OWN = {
    "/v1/chat/completions": SHARED | OPENAI | {
        "messages", "top_logprobs", "max_completion_tokens", "response_format", "reasoning_effort",
        "parallel_tool_calls",
    },
    "/v1/completions": SHARED | OPENAI | {"prompt", "echo", "suffix"},
    "/v1/responses": SHARED | {
        "background", "include", "input", "instructions", "max_output_tokens", "parallel_tool_calls",
        "previous_response_id", "prompt", "reasoning", "store", "text", "top_logprobs", "truncation",
    },
    "/v1/messages": SHARED | {
        "messages", "max_tokens", "system", "stop_sequences", "top_k", "thinking", "output_config",
    },
    "/v1/embeddings": {"model", "input", "dimensions", "encoding_format"},
}  # fmt: skip
MODELS = [
    ("/v1/chat/completions", ChatCompletionRequest),
    ("/v1/completions", CompletionRequest),
    ("/v1/responses", ResponsesRequest),
    ("/v1/messages", AnthropicMessagesRequest),
    ("/v1/messages", AnthropicCountTokensRequest),
    ("/v1/embeddings", EmbeddingCompletionRequest),
    ("/v1/embeddings", EmbeddingChatRequest),
]


@pytest.mark.parametrize(("route", "model"), MODELS)
def test_every_field_of_vllms_server_is_honoured_or_refused(route: str, model: Any) -> None:
    assert set(model.model_fields) - OWN[route] - set(ROUTES[route]) == set()
