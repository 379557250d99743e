"""The tools that a request offers to the model, and the rules about those that it may call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadRequest
from .answer import Record
from .fields import MISSING, Fields

TOOL_MODES = ("auto", "none", "required")


@dataclass(frozen=True)
class OfferedTool:
    """A tool that the client runs, under the name by which the model calls it.

    `function` is the tool as chat templates have it. `form` names the form in which the dialect hands a call back to
    the client. A `deferred` tool is not shown to the model before the client's own search has found it.
    """

    name: str
    function: Record
    form: str = "function"
    namespace: str = ""
    deferred: bool = False


@dataclass
class Tools:
    """The tools of one request. `left_out` are the types that only another server can run: the model sees none of them.

    A client offers such tools to every model. Leaving them out is right unless the request forces a call of one.
    """

    offered: dict[str, OfferedTool] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, tools: Iterable[OfferedTool]) -> None:
        """Offer more tools; the last of two tools with one name holds."""
        self.offered.update((tool.name, tool) for tool in tools)

    def shown(self, names: Iterable[str] | None = None) -> list[Record]:
        """Return the tools for the chat template: all of them, or those with the given names."""
        kept = self.offered.keys() if names is None else set(names)
        return [tool.function for name, tool in self.offered.items() if name in kept]

    def require_one(self, choice: str = "") -> None:
        """Raise BadRequest if a choice demands a call and the model has no tool to call."""
        named = f'tool_choice "{choice}"' if choice else "tool_choice"
        if self.offered:
            return
        if self.left_out:
            types = ", ".join(f'"{kind}"' for kind in dict.fromkeys(self.left_out))
            message = f"{named} needs a tool that the client runs: this server can't run {types}"
            raise BadRequest(message, param="tool_choice")
        raise BadRequest(f"{named} needs tools", param="tool_choice")

    def require(self, name: str) -> None:
        """Raise BadRequest if a choice names a tool that is not offered."""
        if name not in self.offered:
            raise BadRequest(f'tool_choice names "{name}", which is not among the tools', param="tool_choice")

    def defer(self, found: set[str], searchable: bool) -> None:
        """Remove the deferred tools that the client's search has not `found`.

        Without a search that the client runs (`searchable`), the model could never find them, so they all stay.
        """
        if searchable:
            kept = {name: tool for name, tool in self.offered.items() if not tool.deferred or name in found}
            self.offered = kept


def function_tool(fields: Fields, schema: str, namespace: str = "") -> OfferedTool:
    """Return a function of the client, whose parameters are in the field `schema`. Raise BadRequest without a name.

    Clients of several APIs also write a function as OpenAI's chats have it, in the field `function`.
    """
    deferred = fields.get("defer_loading") is True
    if fields.get("name") is None and isinstance(fields.get("function"), dict):
        fields, schema = fields.child("function", "Function"), "parameters"
    name = required_name(fields)
    function = {
        "name": qualified(name, namespace),
        "description": fields.string("description"),
        "parameters": fields.mapping(schema),
        "strict": fields.boolean("strict", False),
    }
    stated = {key: value for key, value in function.items() if value or key == "parameters"}
    return offered(stated, namespace=namespace, deferred=deferred)


def required_name(fields: Fields) -> str:
    """Return the name of a declared tool. Raise a BadRequest with the tool's place if it has none."""
    name = fields.string("name")
    if not name:
        place = fields.place or "tools"
        raise BadRequest(f"{place}: name is required", param=f"{place}.name", code=MISSING)
    return name


def function_of(tool: Record, kind: str) -> Any:
    """Return the part of a tool or a call below its type. Some clients write it beside the type, as in Responses."""
    return tool.get(kind, tool if "name" in tool else None)


def offered(function: Record, form: str = "function", namespace: str = "", deferred: bool = False) -> OfferedTool:
    """Return the tool that a function's record describes. Raise BadRequest for one that the model could not call."""
    _check(function)
    return OfferedTool(function["name"], {"type": "function", "function": function}, form, namespace, deferred)


def _check(function: Record) -> None:
    """Raise BadRequest for a name or parameters with which a call would be no call, but text."""
    name, parameters = function["name"], function.get("parameters") or {}
    if '"' in name or "\\" in name or not name.isprintable():
        raise BadRequest(f"tools: the name {name!r} has a quote, a backslash or a control character", param="tools")
    kinds = parameters.get("type") or "object"
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        message = f'the parameters of the tool "{name}" must have the type "object", not {kinds!r}'
        raise BadRequest(message, param="tools", code="invalid_function_parameters")


def qualified(name: str, namespace: str) -> str:
    """Return the name of a tool inside a namespace, as Ollama flattens it (`openai/responses.go`, convertTools)."""
    prefix = f"{namespace}." if namespace else ""
    return name if name.startswith(prefix) else prefix + name


def object_schema(properties: dict[str, Any], required: Iterable[str] = ()) -> Record:
    """Return the JSON schema of an object."""
    return {"type": "object", "properties": properties, "required": list(required)}
