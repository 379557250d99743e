"""Read the tools and the tool choice of Anthropic's Messages API. Its reference lists the types (`tools`).

It never knows how a model is asked to call a tool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ...errors import BadRequest
from ..answer import Record
from ..fields import Fields
from ..tools import OfferedTool, Tools, function_tool, object_schema, offered
from ..turns import in_turns

CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
SEARCH = "tool_search_tool"

_STRING, _INTEGER, _BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_PAIR = {"type": "array", "items": _INTEGER, "minItems": 2, "maxItems": 2}


def _enumeration(*values: str) -> Record:
    return {"type": "string", "enum": list(values)}


# Anthropic's models know the parameters of these tools, so clients don't send them. The client runs the tools; their
# types end in a date. Anthropic's guides to the bash, text editor, memory and computer use tools list the parameters.
KNOWN_TOOLS: dict[str, Record] = {
    "bash": {
        "description": "Runs a command in a bash session that persists between calls.",
        "parameters": object_schema({"command": _STRING, "restart": _BOOLEAN}),
    },
    "text_editor": {
        "description": "Views, creates and edits files. `command` decides which of the other parameters are needed.",
        "parameters": object_schema(
            {
                "command": _enumeration("view", "create", "str_replace", "insert"),
                "path": _STRING,
                "file_text": _STRING,
                "old_str": _STRING,
                "new_str": _STRING,
                "insert_line": _INTEGER,
                "insert_text": _STRING,
                "view_range": _PAIR,
            },
            ["command", "path"],
        ),
    },
    "memory": {
        "description": "Reads and writes files below /memories, which last beyond this conversation.",
        "parameters": object_schema(
            {
                "command": _enumeration("view", "create", "str_replace", "insert", "delete", "rename"),
                "path": _STRING,
                "file_text": _STRING,
                "old_str": _STRING,
                "new_str": _STRING,
                "insert_line": _INTEGER,
                "insert_text": _STRING,
                "view_range": _PAIR,
                "old_path": _STRING,
                "new_path": _STRING,
            },
            ["command"],
        ),
    },
    "computer": {
        "description": "Uses the mouse and the keyboard of a computer, and takes screenshots of it.",
        "parameters": object_schema(
            {
                "action": _STRING,
                "coordinate": _PAIR,
                "start_coordinate": _PAIR,
                "text": _STRING,
                "scroll_direction": _enumeration("up", "down", "left", "right"),
                "scroll_amount": _INTEGER,
                "duration": {"type": "number"},
            },
            ["action"],
        ),
    },
}
_DATED = re.compile(r"([a-z_]+)_\d{8}")


def parse_tools(declared: Iterable[Fields], blocks: Iterable[Any]) -> Tools:
    """Return the tools of the request. `blocks` are those of its messages, which may change them.

    Claude Code declares tools with `defer_loading`, and refers to those that its own search finds. Raise BadRequest.
    """
    tools = Tools()
    for fields in declared:
        add_tool(tools, fields)
    found: set[str] = set()
    for block in in_turns(blocks):
        found |= _change(tools, block)
    tools.defer(found, searchable=not any(kind.startswith(SEARCH) for kind in tools.left_out))
    return tools


def add_tool(tools: Tools, fields: Fields) -> None:
    """Add a declared tool. Raise BadRequest if it is the client's and has no name."""
    kind = fields.string("type") or "custom"
    if tool := _tool(kind, fields):
        tools.add([tool])
    else:
        tools.left_out.append(kind)


def parse_choice(fields: Fields, tools: Tools) -> dict[str, Any]:
    """Return the fields of a Chat for the choice of tools. Raise BadRequest if it can't be met."""
    choice = fields.child("tool_choice", "anthropic.ToolChoice")
    name = choice.string("name")
    kind = choice.string("type", "" if name else "auto")
    if kind not in CHOICES:
        raise BadRequest(f'invalid tool_choice type "{kind}": must be "auto", "any", "tool" or "none"')
    if kind == "any":
        tools.require_one("any")
    if kind == "tool":
        if any(_undated(left_out) == name for left_out in tools.left_out):
            raise BadRequest(f'tool_choice names the tool "{name}", which this server can\'t run')
        tools.require(name)
    return {
        "tool_choice": CHOICES[kind],
        "forced_tool": name if kind == "tool" else "",
        "parallel_tool_calls": not choice.boolean("disable_parallel_tool_use", False),
    }


def _tool(kind: str, fields: Fields) -> OfferedTool | None:
    """Return a tool that the client runs, None for one that only Anthropic's servers can run."""
    if kind == "custom":
        return function_tool(fields, "input_schema")
    if kind == "function":
        # OpenAI's form of a client's own tool.
        return function_tool(fields, "parameters")
    name = _undated(kind)
    if name == kind or name not in KNOWN_TOOLS:
        return None
    return offered({"name": fields.string("name") or name, **KNOWN_TOOLS[name]})


def _undated(kind: str) -> str:
    """Return the type of a tool without the date at its end; a type without a date as it is."""
    dated = _DATED.fullmatch(kind)
    return dated[1] if dated else kind


def _change(tools: Tools, block: Any) -> set[str]:
    """Apply a block that changes the tools. Return the names of the tools that it shows to the model."""
    if not isinstance(block, dict):
        return set()
    kind = block.get("type")
    if kind == "tool_reference":
        return {str(block.get("tool_name"))}
    change = block.get("tool") if kind in ("tool_addition", "tool_removal") else None
    if not isinstance(change, dict):
        return set()
    definition = change.get("definition")
    if isinstance(definition, dict) and isinstance(definition.get("name"), str):
        add_tool(tools, Fields(definition, "Tool"))
    name = str((definition if isinstance(definition, dict) else change).get("name"))
    if kind == "tool_removal":
        tools.offered.pop(name, None)
    return {name}
