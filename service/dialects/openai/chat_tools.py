"""Read the tools and the tool choice of OpenAI's chat completions. Its reference lists the types (`tools`).

It never knows how calls are handed back.
"""

from __future__ import annotations

from typing import Any

from ...errors import BadRequest
from ..fields import Fields
from ..tools import TOOL_MODES, Tools, function_of, offered
from .custom_tools import CUSTOM, custom_tool


def parse_tools(fields: Fields) -> Tools:
    """Return the tools of the request. Raise BadRequest for a tool of the client that has no name."""
    tools = Tools()
    for place, tool in enumerate(fields.array("tools", "[]api.Tool")):
        kind = (tool.get("type") or "function") if isinstance(tool, dict) else None
        if kind not in ("function", CUSTOM):
            if not isinstance(kind, str):
                raise BadRequest(f"tools[{place}] must be a function with a name", param=f"tools[{place}]")
            tools.left_out.append(kind)
            continue
        function = _function(tool, kind, f"tools[{place}]")
        tools.add([custom_tool(Fields(function, "CustomTool")) if kind == CUSTOM else offered(function)])
    return tools


def _function(tool: dict[str, Any], kind: str, place: str) -> dict[str, Any]:
    """Return a tool's function. Raise BadRequest for one that no chat template and no grammar could use."""
    function = function_of(tool, kind)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRequest(f"{place} must be a function with a name", param=place)
    for name, form, kinds in (("parameters", "an object", dict), ("description", "a string", str)):
        value = function.get(name)
        if value is not None and not isinstance(value, kinds):
            inside = place if function is tool else f"{place}.{kind}"
            raise BadRequest(f"{inside}.{name} must be {form}", param=f"{inside}.{name}", code="invalid_type")
    return function


def parse_choice(value: Any, tools: Tools) -> tuple[str, str, list[str] | None]:
    """Return the choice, the name of the tool that it forces, and the tools that it allows (None: all).

    Raise BadRequest if it can't be met.
    """
    if value is None or value in TOOL_MODES:
        if value == "required":
            tools.require_one()
        return value or "auto", "", None
    # Some clients write a choice as Anthropic's API has it: "any", each as an object, and a tool by its name.
    if value == "any":
        return parse_choice("required", tools)
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in (*TOOL_MODES, "any"):
        return parse_choice(kind, tools)
    if kind == "tool":
        kind = "function"
    if kind == "allowed_tools":
        return _allowed(value, tools)
    if isinstance(kind, str) and kind in tools.left_out:
        raise BadRequest(f'tool_choice names the tool "{kind}", which this server can\'t run', param="tool_choice")
    function = function_of(value, kind) if kind in ("function", CUSTOM) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest('tool_choice must be "none", "auto", "required" or a named function', param="tool_choice")
    if name not in tools.offered:
        raise BadRequest(f"tool_choice names a tool that is not in tools: {name}", param="tool_choice")
    return "required", name, None


def _allowed(value: dict[str, Any], tools: Tools) -> tuple[str, str, list[str] | None]:
    allowed = Fields(value, "ChatCompletionRequest", "tool_choice.").child("allowed_tools", "openai.AllowedTools")
    mode, names = allowed.string("mode", "auto"), []
    for each in allowed.array("tools", "[]api.Tool"):
        function = function_of(each, each.get("type", "function")) if isinstance(each, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            tools.require(name)
            names.append(name)
    if mode not in TOOL_MODES:
        raise BadRequest('tool_choice.allowed_tools.mode must be "auto" or "required"', param="tool_choice")
    if mode == "required" and not names:
        raise BadRequest("tool_choice allows no tool that the client runs, and requires a call", param="tool_choice")
    return mode, "", names
