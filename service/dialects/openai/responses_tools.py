"""Read the tools and the tool choice of OpenAI's Responses API. Its reference lists the types (`tools`, `tool_choice`).

Tools that the client runs become functions for the model. It never knows how their calls are handed back.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ...errors import BadRequest
from ..answer import Record
from ..fields import Fields
from ..tools import TOOL_MODES, OfferedTool, Tools, function_tool, object_schema, offered, qualified
from ..turns import in_turns
from .custom_tools import CUSTOM, custom_tool

NAMESPACE, TOOL_SEARCH = "namespace", "tool_search"

_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_COMMAND = {"type": "array", "items": _STRING}

# OpenAI's models know the parameters of these tools. The client runs them, and their calls are items of these types.
KNOWN_TOOLS: dict[str, Record] = {
    "local_shell": {
        "name": "local_shell",
        "description": "Runs a command on the user's machine and returns its output.",
        "parameters": object_schema(
            {"command": _COMMAND, "timeout_ms": _INTEGER, "working_directory": _STRING}, ["command"]
        ),
    },
    "shell": {
        "name": "shell",
        "description": "Runs shell commands on the user's machine and returns the output of each.",
        "parameters": object_schema(
            {"commands": _COMMAND, "timeout_ms": _INTEGER, "max_output_length": _INTEGER}, ["commands"]
        ),
    },
    "apply_patch": {
        "name": "apply_patch",
        "description": "Creates, updates or deletes a file of the user. `diff` is a V4A diff; a deletion has none.",
        "parameters": object_schema(
            {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": _STRING,
                "diff": _STRING,
            },
            ["type", "path"],
        ),
    },
}


class ToolChoice:
    """A tool choice: the mode, the name of the tool that must be called, and the names that are allowed (None: all)."""

    def __init__(self, mode: str = "auto", forced: str = "", allowed: set[str] | None = None) -> None:
        self.mode = mode
        self.forced = forced
        self.allowed = allowed


def parse_tools(fields: Fields, items: Iterable[Record]) -> Tools:
    """Return the tools of the request, and those that the items of its conversation add. Raise BadRequest."""
    tools = Tools()
    found: set[str] = set()
    add_tools(tools, fields.children("tools", "[]Tool", "Tool"))
    for item in in_turns(items):
        record = Fields(item, "ResponsesRequest", "input.")
        if record.get("type") in ("additional_tools", "tool_search_output"):
            added = _readable_tools(record.get("tools"))
            tools.add(added.offered.values())
            found |= set(added.offered)
    tools.defer(found, searchable=TOOL_SEARCH in tools.offered)
    return tools


def add_tools(tools: Tools, declared: Iterable[Fields], namespace: str = "") -> None:
    """Add declared tools. A namespace is a group of tools, whose names begin with its own."""
    for fields in declared:
        # OpenAI requires a type. A function without one is still the client's, and the model has to see it.
        kind = fields.string("type") or "function"
        if kind == NAMESPACE:
            add_tools(tools, fields.children("tools", "[]Tool", "Tool"), qualified(fields.string("name"), namespace))
        elif tool := _tool(kind, fields, namespace):
            tools.add([tool])
        else:
            tools.left_out.append(kind)


def parse_choice(fields: Fields, tools: Tools) -> ToolChoice:
    """Return the tool choice. Raise BadRequest if it can't be met."""
    value = fields.get("tool_choice")
    choice = Fields(value if isinstance(value, dict) else {"type": value}, "ResponsesRequest", "tool_choice.")
    kind = choice.string("type", "" if isinstance(value, dict) else "auto")
    if kind in ("function", CUSTOM):
        return _forced(choice, tools)
    if kind == "allowed_tools":
        return _allowed(choice, tools)
    if kind in KNOWN_TOOLS and kind in tools.offered:
        return ToolChoice("required", kind)
    if kind not in TOOL_MODES and isinstance(value, dict) and kind in (*tools.left_out, *KNOWN_TOOLS):
        raise BadRequest(f'tool_choice names the tool "{kind}", which this server can\'t run', param="tool_choice")
    if kind not in TOOL_MODES:
        raise _unknown_choice(kind)
    if kind == "required":
        tools.require_one()
    return ToolChoice(kind)


def _readable_tools(declared: Any) -> Tools:
    """Return the tools that an item adds, without those that can't be read: the item is sent again with each turn."""
    tools = Tools()
    for each in in_turns(declared if isinstance(declared, list) else []):
        with suppress(BadRequest):
            add_tools(tools, [Fields(each, "ResponsesRequest", "input.tools.")] if isinstance(each, dict) else [])
    return tools


def _tool(kind: str, fields: Fields, namespace: str) -> OfferedTool | None:
    """Return a tool that the client runs, None for one that only OpenAI's servers can run."""
    if kind == "function":
        return function_tool(fields, "parameters", namespace)
    if kind == CUSTOM:
        return custom_tool(fields, namespace)
    if kind == TOOL_SEARCH and fields.get("execution") == "client":
        return offered(_search(fields), TOOL_SEARCH)
    if kind in KNOWN_TOOLS and not _in_container(fields):
        return offered(KNOWN_TOOLS[kind], kind)
    return None


def _search(fields: Fields) -> Record:
    parameters = fields.get("parameters")
    return {
        "name": TOOL_SEARCH,
        "description": fields.string("description") or "Finds more tools. Its result lists tools that can be called.",
        "parameters": parameters if isinstance(parameters, dict) else object_schema({"query": _STRING}, ["query"]),
    }


def _in_container(fields: Fields) -> bool:
    environment: Any = fields.get("environment")
    return isinstance(environment, dict) and environment.get("type", "local") != "local"


def _forced(choice: Fields, tools: Tools) -> ToolChoice:
    """Return a choice that forces one tool.

    A tool in a namespace is named with its namespace, in one field or in two, or alone if that is unambiguous.
    """
    name = qualified(choice.string("name"), choice.string("namespace"))
    if name not in tools.offered:
        end = f".{name}"
        within = [tool.name for tool in tools.offered.values() if tool.namespace and tool.name.endswith(end)]
        name = within[0] if len(within) == 1 else name
    tools.require(name)
    return ToolChoice("required", name)


def _allowed(choice: Fields, tools: Tools) -> ToolChoice:
    mode, names = choice.string("mode", "auto"), set()
    for each in in_turns(choice.children("tools", "[]Tool", "Tool")):
        if each.string("type", "function") in ("function", CUSTOM):
            names.add(_forced(each, tools).forced)
        elif each.string("type") in tools.offered:
            names.add(each.string("type"))
    if mode not in TOOL_MODES:
        raise _unknown_choice(mode)
    if mode == "required" and not names:
        raise BadRequest("tool_choice allows no tool that the client runs, and requires a call", param="tool_choice")
    return ToolChoice(mode, allowed=names)


def _unknown_choice(mode: str) -> BadRequest:
    message = f'invalid tool_choice "{mode}": must be "auto", "none", "required", or name functions'
    return BadRequest(message, param="tool_choice")
