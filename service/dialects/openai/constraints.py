"""What an answer has to look like: OpenAI's formats, and the JSON constraints that vLLM's server takes beside them."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import BadRequest
from ..fields import Fields

_OTHERS = ("regex", "choice", "grammar", "structural_tag", "whitespace_pattern")
_SWITCHES = ("disable_any_whitespace", "disable_additional_properties")


def parse_response_format(fields: Fields) -> str | dict[str, Any] | None:
    """Return the `response_format` of chat and completions as a Request has it. Raise BadRequest."""
    shape = fields.child("response_format", "openai.ResponseFormat")
    kind = shape.string("type", "text")
    if kind == "json_schema":
        schema = shape.child("json_schema", "openai.JsonSchema").get("schema")
        if schema is not None and not isinstance(schema, dict):
            raise BadRequest("response_format.json_schema.schema must be a JSON schema")
        # A schema is optional in OpenAI's reference. Without one, any JSON fits.
        return schema or "json"
    if kind not in ("text", "json_object"):
        raise BadRequest('response_format.type must be "text", "json_object" or "json_schema"')
    return "json" if kind == "json_object" else None


def with_vllms(fields: Fields, format: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return the format, or what vLLM's own fields ask for. Raise BadRequest if the request has both."""
    own = _structured_outputs(fields)
    if own is None and fields.get("guided_json") is not None:
        own = _schema(fields.get("guided_json"), "guided_json")
    if own is not None and format is not None:
        raise BadRequest("structured_outputs can't go with another format", param="structured_outputs")
    return own if own is not None else format


def _structured_outputs(fields: Fields) -> str | dict[str, Any] | None:
    outputs = fields.child("structured_outputs", "vllm.StructuredOutputsParams")
    for name in _OTHERS + _SWITCHES:
        if outputs.get(name) not in (None, False):
            place = f"structured_outputs.{name}"
            raise BadRequest(f"{place} is not supported", param=place, code="unsupported_parameter")
    if outputs.get("json") is not None:
        return _schema(outputs.get("json"), "structured_outputs.json")
    return "json" if outputs.boolean("json_object", False) else None


def _schema(value: Any, place: str) -> str | dict[str, Any]:
    """Return a schema, which vLLM takes as an object or as the JSON text of one."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise BadRequest(f"{place} must be a JSON schema")
    return value or "json"
