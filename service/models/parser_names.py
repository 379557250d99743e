"""The names of the vLLM parsers that read a model's thinking and its tool calls. vLLM asks the operator for them.

Each name comes from, in this order: the settings; the marks in the model's chat template; the model's architecture.
"""

from __future__ import annotations

from typing import NamedTuple

# The first mark found in the template decides, so the more specific marks come first.
_TOOLS_BY_MARK = (
    ("<arg_key>", "glm45"),
    ("<function=", "qwen3_xml"),
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
)
_TOOLS_BY_ARCHITECTURE = {
    "gpt_oss": "openai",
    "granite": "granite",
    "llama": "llama3_json",
    "llama4": "llama4_pythonic",
    "phi3": "phi4_mini_json",
    "gemma4": "gemma4",
}
_THINKING_BY_ARCHITECTURE = {
    "deepseek_v3": "deepseek_r1",
    "glm4_moe": "glm45",
    "gpt_oss": "openai_gptoss",
    "granite": "granite",
    "seed_oss": "seed_oss",
}
# The variables that a template reads when thinking can be switched off.
_SWITCHES = ("enable_thinking", "thinking")


class ParserNames(NamedTuple):
    """The names of vLLM's parsers; empty when the model does not call tools, or does not think.

    `always_thinks`: the model thinks, and its template can't switch that off.
    """

    tools: str = ""
    thinking: str = ""
    always_thinks: bool = False


def parser_names(template: str, architecture: str, tools: str = "", thinking: str = "") -> ParserNames:
    """Return the parsers of a model with that chat template and architecture.

    `tools` and `thinking` are the settings' names: empty leaves the choice to us, "none" means no parser.
    """
    tools = tools or _tool_parser(template, architecture)
    thinking = thinking or _thinking_parser(template, architecture)
    switched = any(switch in template for switch in _SWITCHES)
    return ParserNames(
        "" if tools == "none" else tools,
        "" if thinking == "none" else thinking,
        always_thinks=thinking not in ("", "none") and not switched,
    )


def _tool_parser(template: str, architecture: str) -> str:
    if "tools" not in template:
        return ""
    by_mark = (parser for mark, parser in _TOOLS_BY_MARK if mark in template)
    return next(by_mark, _TOOLS_BY_ARCHITECTURE.get(architecture, ""))


def _thinking_parser(template: str, architecture: str) -> str:
    if architecture in ("gpt_oss", "granite", "seed_oss"):
        return _THINKING_BY_ARCHITECTURE[architecture] if "think" in template or architecture == "gpt_oss" else ""
    if "<think>" not in template:
        return ""
    by_switch = "qwen3" if any(switch in template for switch in _SWITCHES) else "deepseek_r1"
    return _THINKING_BY_ARCHITECTURE.get(architecture, by_switch)
