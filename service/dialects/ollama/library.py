"""Turn the bodies of Ollama's routes that change models into orders, and progress into records.

Fields and their order are those of Ollama's `api/types.go`. It never knows how a model is stored.
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
    """A pull or a creation. `stream` and `stream_type` are as the client sent them, for the negotiation."""

    model: str
    recipe: Recipe
    stream: Any
    stream_type: Any


def parse_pull(body: dict[str, Any]) -> Order:
    """Parse the body of `POST /api/pull`. Raise BadRequest."""
    fields = Fields(body, "PullRequest")
    fields.boolean("insecure", False)
    return _order(fields, Recipe())


def parse_create(body: dict[str, Any]) -> Order:
    """Parse the body of `POST /api/create`. Raise BadRequest, or Unsupported for a change of the model's weights."""
    fields = Fields(body, "CreateRequest")
    if quantize := fields.string("quantize") or fields.string("quantization"):
        raise Unsupported(
            f'quantize "{quantize}" is not supported: vLLM quantizes a model while it loads it; the operator sets that '
            'in models.toml: engine_args = { quantization = "fp8" }'
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
    """Parse the body of `POST /api/copy`: source and destination. Raise BadRequest."""
    fields = Fields(body, "CopyRequest")
    names = fields.string("source"), fields.string("destination")
    for what, name in zip(("source", "destination"), names):
        try:
            ModelName.parse(name)
        except BadRequest:
            raise BadRequest(f"{what} {quoted(name)} is invalid") from None
    return names


def parse_delete(body: dict[str, Any]) -> str:
    """Parse the body of `DELETE /api/delete`: the model's name as the client spells it. Raise BadRequest."""
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
    """Return the text in quotes, as Go's `%q` writes it."""
    return msgspec.json.encode(text).decode()


def _order(fields: Fields, recipe: Recipe) -> Order:
    model = fields.string("model") or fields.string("name")
    ModelName.parse(model)
    return Order(model, recipe, fields.get("stream"), stream_type(fields))


def _license(fields: Fields) -> list[str]:
    value = fields.get("license")
    texts = [value] if isinstance(value, str) else fields.array("license", "[]string")
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("license must be a string or a list of strings")
    return texts


class ProgressRecord(msgspec.Struct, omit_defaults=True):
    """A record of a pull or a creation. `total` and `completed` are in bytes."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class ProgressAnswer(Answer):
    """The records of a pull's or a creation's progress."""

    def failure(self, error: ServiceError) -> Any:
        return error_record(error)

    def _records(self, event: Event) -> list[Any]:
        if not isinstance(event, Progress):
            return []
        return [ProgressRecord(event.status, event.digest, event.total, event.completed)]

    def _join(self, records: list[Any]) -> Any:
        """Return the last record, which is the whole answer when it is not streamed."""
        return records[-1]
