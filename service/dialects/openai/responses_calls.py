"""Hand the model's calls back as the items of OpenAI's Responses API: each type of tool has its own type of item."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ..answer import Record
from ..tools import OfferedTool
from .custom_tools import CUSTOM, custom_input
from .responses_tools import TOOL_SEARCH


class CallItem(NamedTuple):
    """A call's item. `field` holds the text that the stream sends as `events`, both empty where it sends none."""

    prefix: str
    record: Record
    field: str = ""
    events: str = ""


def call_item(call: Record, tool: OfferedTool | None, split_names: bool) -> CallItem:
    """Return the item of a call. `tool` is None if the model has called a tool that was not offered.

    The name of a tool in a namespace is `namespace.name`, as Ollama has it. With `split_names` the item has the fields
    `namespace` and `name`, as OpenAI has it.
    """
    function = call["function"]
    name, arguments = function["name"], function["arguments"]
    form = tool.form if tool else "function"
    if form in _FORMS:
        return CallItem(_PREFIXES[form], {"type": f"{form}_call", "call_id": call["id"], **_FORMS[form](arguments)})
    named: Record = {"call_id": call["id"], "name": name}
    if tool and tool.namespace and split_names:
        named |= {"name": name.removeprefix(f"{tool.namespace}."), "namespace": tool.namespace}
    if form == CUSTOM:
        record = {"type": "custom_tool_call", **named, "input": custom_input(arguments)}
        return CallItem("ctc", record, "input", "response.custom_tool_call_input")
    record = {"type": "function_call", **named, "arguments": msgspec.json.encode(arguments).decode()}
    return CallItem("fc", record, "arguments", "response.function_call_arguments")


def _local_shell(arguments: Record) -> Record:
    command = arguments.get("command")
    action = {
        "type": "exec",
        "command": command if isinstance(command, list) else ["bash", "-lc", str(command)],
        "env": arguments.get("env") or {},
        "timeout_ms": arguments.get("timeout_ms"),
        "user": arguments.get("user"),
        "working_directory": arguments.get("working_directory"),
    }
    return {"action": action}


def _shell(arguments: Record) -> Record:
    commands: Any = arguments.get("commands")
    action = {
        "commands": commands if isinstance(commands, list) else [str(commands)],
        "timeout_ms": arguments.get("timeout_ms"),
        "max_output_length": arguments.get("max_output_length"),
    }
    return {"action": action}


def _apply_patch(arguments: Record) -> Record:
    return {"operation": arguments}


def _tool_search(arguments: Record) -> Record:
    return {"execution": "client", "arguments": arguments}


_FORMS = {"local_shell": _local_shell, "shell": _shell, "apply_patch": _apply_patch, TOOL_SEARCH: _tool_search}
_PREFIXES = {"local_shell": "lsh", "shell": "sh", "apply_patch": "apc", TOOL_SEARCH: "tsc"}
