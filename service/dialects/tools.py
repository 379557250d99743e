"""The tools of a request and the calls of a conversation, as chat templates know them."""

from __future__ import annotations

from typing import Any

from ..errors import BadRequest
from .answer import Record
from .fields import Fields


def function_tool(fields: Fields, schema: str) -> Record:
    """Return a tool of the client, whose parameters are in the field `schema`. Raise BadRequest if it has no name."""
    name = fields.string("name")
    if not name:
        raise BadRequest("tools: name is required")
    function = {
        "name": name,
        "description": fields.string("description"),
        "parameters": fields.mapping(schema),
        "strict": fields.boolean("strict", False),
    }
    stated = {field: value for field, value in function.items() if value or field == "parameters"}
    return {"type": "function", "function": stated}


def tool_call(call_id: str, name: str, arguments: Any) -> Record:
    """Return a call of an earlier turn."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
