"""Which of vLLM's parsers reads a model's thinking and its tool calls. vLLM leaves that to the operator.

Told from the marks that a model's chat template writes, then from its architecture; the settings overrule both.
"""

from __future__ import annotations

from typing import NamedTuple


# The first mark that stands in the template decides; more special ones come first.
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
# What a template reads where thinking can be switched off.
_SWITCHES = ("enable_thinking", "thinking")



class ParserNames(NamedTuple):
    """Names of vLLM's parsers, empty where the model does not do it; `always_thinks`: there is no switch."""

    tools: str = ""
    thinking: str = ""
    always_thinks: bool = False



def parser_names(template: str, architecture: str, tools: str = "", thinking: str = "") -> ParserNames:
    """The family of a model with that chat template; `tools` and `thinking` are the settings' ("none": it does not)."""
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
