"""Turn the body of `POST /v1/embeddings` into a request, and vectors into its record. It never knows Flask."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.events import Vectors
from ...protocol.request import EmbedRequest
from .. import float32
from ..fields import Fields
from ..vllm_fields import EMBEDDINGS, refuse_unsupported

FLOAT_BYTES = 4


@dataclass(frozen=True)
class EmbeddingsCall:
    """A parsed body."""

    request: EmbedRequest
    as_base64: bool


class Embedding(msgspec.Struct):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: str
    embedding: list[float] | str
    index: int


class EmbeddingsUsage(msgspec.Struct):
    """The tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(msgspec.Struct):
    """The body of an answer of `/v1/embeddings`."""

    object: str
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def parse_embeddings(body: dict[str, Any]) -> EmbeddingsCall:
    """Parse the body. Raise BadRequest in Ollama's words."""
    fields = Fields(body, "EmbedRequest")
    model, dimensions = fields.model(), fields.integer("dimensions")
    refuse_unsupported(fields, EMBEDDINGS)
    if fields.get("dimensions") is not None and dimensions < 1:
        raise BadRequest("dimensions must be at least 1", param="dimensions")
    encoding = fields.string("encoding_format", "float")
    if encoding.lower() not in ("float", "base64"):
        raise BadRequest(f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64'].")
    kept = fields.integer("truncate_prompt_tokens", -1)
    if kept != -1 and kept < 1:
        raise BadRequest("truncate_prompt_tokens must be at least 1, or -1", param="truncate_prompt_tokens")
    limit = None if kept == -1 else kept
    # A text that is too long is refused, as OpenAI and vLLM refuse it, unless the client says how it may be cut.
    cuts = fields.get("truncate_prompt_tokens") is not None
    request = EmbedRequest(model, _inputs(fields.get("input")), dimensions, truncate=cuts, context_limit=limit)
    return EmbeddingsCall(request, encoding.lower() == "base64")


def embeddings_record(call: EmbeddingsCall, embedded: Vectors) -> Embeddings:
    """Return the answer. Raise BadRequest if the vectors have fewer numbers than the client asked for."""
    most = min((len(vector) // FLOAT_BYTES for vector in embedded.vectors), default=0)
    if call.request.dimensions > most > 0:
        raise BadRequest(f"dimensions must be at most {most}, the size of this model's vectors", param="dimensions")
    data = [Embedding("embedding", _vector(call, vector), index) for index, vector in enumerate(embedded.vectors)]
    usage = EmbeddingsUsage(embedded.prompt_tokens, embedded.prompt_tokens)
    return Embeddings("list", data, call.request.model, usage)


def _vector(call: EmbeddingsCall, vector: Any) -> list[float] | str:
    """Return a vector as numbers, or in base64 the bytes that the queue carries: little-endian float32."""
    return base64.b64encode(vector).decode() if call.as_base64 else float32.shortest(vector)


def _inputs(value: Any) -> list[str]:
    if value is None or value == []:
        raise BadRequest("invalid input", param="input")
    inputs = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in inputs):
        raise BadRequest(f"invalid input type{_cure(inputs)}", param="input")
    return inputs


def _cure(inputs: list[Any]) -> str:
    """Return what to do about token ids. LangChain's client sends those of OpenAI's models, which mean other texts."""
    numbers = inputs[0] if isinstance(inputs[0], list) and inputs[0] else inputs
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        return ""
    return ": send texts and not token ids (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
