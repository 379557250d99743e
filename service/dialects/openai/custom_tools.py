"""OpenAI's custom tools, whose input is free text. The model gets each as a function with one parameter, `input`."""

from __future__ import annotations

from typing import Any

import msgspec

from ..answer import Record
from ..fields import Fields
from ..tools import OfferedTool, object_schema, offered, qualified, required_name

CUSTOM = "custom"


def custom_tool(fields: Fields, namespace: str = "") -> OfferedTool:
    """Return a custom tool. Raise BadRequest without a name.

    The grammar of its input is shown in the description. It is not enforced.
    """
    name = required_name(fields)
    function = {
        "name": qualified(name, namespace),
        "description": "\n\n".join(text for text in (fields.string("description"), _format(fields)) if text),
        "parameters": object_schema(
            {"input": {"type": "string", "description": "The input, as plain text."}}, ["input"]
        ),
    }
    return offered(function, CUSTOM, namespace, deferred=fields.get("defer_loading") is True)


def custom_input(arguments: Record) -> str:
    """Return the text in the arguments of a call. A model may give it another name than `input`."""
    texts = [arguments["input"]] if "input" in arguments else list(arguments.values())
    if len(texts) == 1 and isinstance(texts[0], str):
        return texts[0]
    return msgspec.json.encode(arguments).decode()


def _format(fields: Fields) -> str:
    """Return the grammar in words for the model. Responses and chat have it at different depths."""
    shape: Any = fields.get("format")
    if not isinstance(shape, dict):
        return ""
    nested: Any = shape.get("grammar")
    grammar: Record = nested if isinstance(nested, dict) else shape
    definition, syntax = grammar.get("definition"), grammar.get("syntax", "lark")
    return f"The input has to fit this grammar ({syntax}):\n{definition}" if isinstance(definition, str) else ""
