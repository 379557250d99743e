"""Turn the bodies of Ollama's two embedding routes into requests, and vectors into their records.

`/api/embed` takes many texts and reports durations; `/api/embeddings` is the older route, for one text. It never knows
Flask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import BadRequest, ModelNotFound
from ...protocol.events import Vectors
from ...protocol.request import EmbedRequest
from ...syntax.durations import parse_keep_alive
from ...syntax.names import ModelName
from ...syntax.options import parse_options
from .. import float32
from ..fields import Fields


@dataclass(frozen=True)
class EmbedCall:
    """A parsed body. A request without inputs only loads the model. `keep_alive` is in seconds."""

    request: EmbedRequest
    keep_alive: float | None


class EmbedRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of an answer of `/api/embed`. Durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsRecord(msgspec.Struct):
    """The body of an answer of `/api/embeddings`."""

    embedding: list[float]


def parse_embed(body: dict[str, Any]) -> EmbedCall:
    """Parse the body of `POST /api/embed`. Raise BadRequest, or ModelNotFound if no model is named."""
    fields = Fields(body, "EmbedRequest")
    model, dimensions, truncate = fields.string("model"), fields.integer("dimensions"), fields.boolean("truncate", True)
    inputs = _inputs(fields.get("input"))
    if not model:
        raise ModelNotFound("model '' not found")
    return _call(fields, model, inputs, dimensions, truncate)


def parse_embeddings(body: dict[str, Any]) -> EmbedCall:
    """Parse the body of `POST /api/embeddings`, which never cuts its text. Raise BadRequest."""
    fields = Fields(body, "EmbeddingRequest")
    model, prompt = fields.string("model"), fields.string("prompt")
    if not model:
        raise BadRequest("model is required")
    return _call(fields, model, [prompt] if prompt else [], 0, truncate=False)


def embed_record(call: EmbedCall, embedded: Vectors, load_ns: int, total_ns: int) -> EmbedRecord:
    """Return the answer of `/api/embed`. As in Ollama, one that only loaded the model has no durations."""
    if not call.request.inputs:
        return EmbedRecord(model=call.request.model, embeddings=[])
    return EmbedRecord(
        model=call.request.model,
        embeddings=[float32.shortest(vector) for vector in embedded.vectors],
        total_duration=total_ns,
        load_duration=load_ns,
        prompt_eval_count=embedded.prompt_tokens,
    )


def embeddings_record(embedded: Vectors) -> EmbeddingsRecord:
    """Return the answer of `/api/embeddings`, whose numbers Ollama prints as float64."""
    return EmbeddingsRecord([number for vector in embedded.vectors for number in float32.widened(vector)])


def _inputs(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    inputs = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in inputs):
        raise BadRequest("invalid input type")
    return inputs


def _call(fields: Fields, model: str, inputs: list[str], dimensions: int, truncate: bool) -> EmbedCall:
    ModelName.parse(model)
    _, context_limit = parse_options(fields.mapping("options"))
    keep_alive = parse_keep_alive(fields.get("keep_alive"))
    return EmbedCall(EmbedRequest(model, inputs, dimensions, truncate, context_limit), keep_alive)
