"""Constraints on the form of an answer: OpenAI's formats, and the constraints that vLLM's server takes beside them."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import BadRequest
from ...protocol.request import Constraint
from ..bounds import MAX_SCHEMA_BYTES
from ..fields import Fields
from ..formats import kind_of, schema_of

_KINDS = ("regex", "choice", "grammar", "structural_tag")
_KNOWN = {*_KINDS, "json", "json_object"}
_BOTH = "structured_outputs can't go with another format"


def parse_response_format(fields: Fields) -> str | dict[str, Any] | None:
    """Return the `response_format` of chat and completions as a Request has it. Raise BadRequest."""
    shape = fields.child("response_format", "openai.ResponseFormat")
    kind = kind_of(shape, "text")
    if kind == "json_schema":
        return schema_of(shape)
    if kind not in ("text", "json_object"):
        message = 'response_format.type must be "text", "json_object" or "json_schema"'
        raise BadRequest(message, param="response_format.type")
    # llama.cpp's server and others take a schema here, too, and their clients send it.
    return schema_of(shape) if kind == "json_object" else None


def with_vllms(
    fields: Fields, format: str | dict[str, Any] | None
) -> tuple[str | dict[str, Any] | None, Constraint | None]:
    """Return the format and the constraint of a Request: from `format`, or from vLLM's own fields.

    Raise BadRequest if the request asks for more than one.
    """
    outputs = fields.child("structured_outputs", "vllm.StructuredOutputsParams")
    for name, value in outputs.values.items():
        # A constraint with a misspelt name would not hold, and nothing would show it.
        if name not in _KNOWN and value is not False:
            place = f"structured_outputs.{name}"
            raise BadRequest(f"{place} is not supported", param=place, code="unsupported_parameter")
    asked = [format] if format is not None else []
    if outputs.boolean("json_object", False):
        asked.append("json")
    for place, value in (("structured_outputs.json", outputs.get("json")), ("guided_json", fields.get("guided_json"))):
        if value is not None:
            asked.append(_schema(value, place))
    constraints = [_constraint(outputs, "", kind) for kind in _KINDS]
    constraints += [_constraint(fields, "guided_", kind) for kind in _KINDS[:3]]
    own = [each for each in constraints if each is not None]
    if len(asked) + len(own) > 1:
        raise BadRequest(_BOTH, param="structured_outputs")
    return (asked[0] if asked else None), (own[0] if own else None)


def _constraint(fields: Fields, prefix: str, kind: str) -> Constraint | None:
    name = prefix + kind
    if fields.get(name) is None:
        return None
    value: Any = fields.strings(name, "[]string", "string") if kind == "choice" else fields.string(name)
    if not value or (kind == "choice" and "" in value):
        place = f"{fields.place}.{name}".removeprefix(".")
        raise BadRequest(f"{place} must not be empty", param=place)
    return Constraint(**{kind: value})


def _schema(value: Any, place: str) -> str | dict[str, Any]:
    """Return a schema, which vLLM takes as an object or as the JSON text of one."""
    if isinstance(value, str):
        if len(value) > MAX_SCHEMA_BYTES:
            sentence = f"{place} may have at most {MAX_SCHEMA_BYTES} characters, and has {len(value)}"
            raise BadRequest(sentence, param=place, code="string_above_max_length")
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise BadRequest(f"{place} must be a JSON schema", param=place)
    return value or "json"
