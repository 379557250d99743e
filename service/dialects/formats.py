"""The JSON schema in a request's format of the answer: `response_format`, `text.format` or `output_config.format`."""

from __future__ import annotations

from typing import Any

from ..errors import BadRequest
from .fields import MISSING, Fields


def kind_of(shape: Fields, default: str) -> str:
    """Return the type of a format, `default` for one that is absent or empty.

    Raise BadRequest for a format that has other fields, but no type: they would be ignored.
    """
    if shape.values and "type" not in shape.values:
        place = f"{shape.place}.type"
        raise BadRequest(f"{place} is required", param=place, code=MISSING)
    return shape.string("type", default)


def schema_of(shape: Fields) -> str | dict[str, Any]:
    """Return the schema of a format, or "json" if it has none: then any JSON fits. Raise BadRequest.

    OpenAI's chats have the schema in `json_schema.schema`, its responses and Anthropic in `schema`. Clients mix the two
    up, and llama.cpp's server and others take both, so both are read everywhere.
    """
    nested = shape.child("json_schema", "openai.JsonSchema")
    for fields in (nested, shape):
        schema = fields.get("schema")
        if schema is not None and not isinstance(schema, dict):
            place = f"{fields.place}.schema"
            raise BadRequest(f"{place} must be a JSON schema", param=place)
        if schema:
            return schema
    return "json"
