"""Ollama's routes that change its models: request bodies to what is to be done, progress to records. Knows no bytes.

Fields and their order are those of Ollama's `api/types.go`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ...errors import BadRequest, ServiceError, Unsupported
from ...protocol.events import Event, Progress
from ...protocol.model_info import Recipe
from ...syntax.names import ModelName
from ..answer import Answer
from ..fields import Fields
from .answer import error_record
from .request import parse_messages, stream_type


class Order(NamedTuple):
    """A pull or a creation, as it was asked for. `stream` and `stream_type` are as they came, for the negotiation."""

    model: str
    recipe: Recipe
    stream: Any
    stream_type: Any


def parse_pull(body: dict[str, Any]) -> Order:
    """Raises BadRequest."""
    fields = Fields(body, "PullRequest")
    fields.boolean("insecure", False)
    return _order(fields, Recipe())


def parse_create(body: dict[str, Any]) -> Order:
    """Raises BadRequest, and Unsupported for what vLLM does not do to a model's weights."""
    fields = Fields(body, "CreateRequest")
    if quantize := fields.string("quantize") or fields.string("quantization"):
        raise Unsupported(
            f'quantize "{quantize}" is not supported: vLLM quantizes a model while it loads it, which the operator '
            'asks for in models.toml: engine_args = { quantization = "fp8" }'
        )
    for name in ("draft_files", "draft_quantize", "remote_host"):
        if fields.get(name):
            raise Unsupported(f"{name} is not supported")
    recipe = Recipe(
        base=fields.string("from"),
        files=fields.strings_by_name("files"),
        adapters=fields.strings_by_name("adapters"),
        template=fields.string("template"),
        system=fields.string("system") or None,
        license=_license(fields),
        options=fields.mapping("parameters"),
        messages=parse_messages(fields),
    )
    return _order(fields, recipe)


def parse_copy(body: dict[str, Any]) -> tuple[str, str]:
    """Source and destination. Raises BadRequest."""
    fields = Fields(body, "CopyRequest")
    names = fields.string("source"), fields.string("destination")
    for what, name in zip(("source", "destination"), names, strict=True):
        try:
            ModelName.parse(name)
        except BadRequest:
            raise BadRequest(f"{what} {quoted(name)} is invalid") from None
    return names


def parse_delete(body: dict[str, Any]) -> str:
    """The name as it was given. Raises BadRequest."""
    fields = Fields(body, "DeleteRequest")
    name = fields.string("model") or fields.string("name")
    if not name:
        raise BadRequest("model is required")
    try:
        ModelName.parse(name)
    except BadRequest:
        raise BadRequest(f"name {quoted(name)} is invalid") from None
    return name


def quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _order(fields: Fields, recipe: Recipe) -> Order:
    model = fields.string("model") or fields.string("name")
    ModelName.parse(model)
    return Order(model, recipe, fields.get("stream"), stream_type(fields))


def _license(fields: Fields) -> list[str]:
    value = fields.get("license")
    texts = [value] if isinstance(value, str) else fields.array("license", "[]string")
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("license must be a text or a list of texts")
    return texts


class ProgressRecord(msgspec.Struct, omit_defaults=True):
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class ProgressAnswer(Answer):
    """The records of a pull or a creation."""

    def failure(self, error: ServiceError) -> Any:
        return error_record(error)

    def _records(self, event: Event) -> list[Any]:
        if not isinstance(event, Progress):
            return []
        return [ProgressRecord(event.status, event.digest, event.total, event.completed)]

    def _join(self, records: list[Any]) -> Any:
        """The last one is all that an answer has that is not streamed."""
        return records[-1]
