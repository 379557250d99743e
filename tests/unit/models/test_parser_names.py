from __future__ import annotations

import pytest

from service.models.parser_names import ParserNames, parser_names

HERMES = "{% if tools %}<tool_call>{% endif %}"


@pytest.mark.parametrize(
    ("template", "architecture", "parser"),
    [
        (HERMES, "qwen2", "hermes"),
        ("{% if tools %}<tool_call><function={% endif %}", "qwen3_moe", "qwen3_xml"),
        ("{% if tools %}<tool_call><arg_key>{% endif %}", "glm4_moe", "glm45"),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", "mistral", "mistral"),
        ("{% if tools %}{% endif %}", "llama", "llama3_json"),
        ("{% if tools %}{% endif %}", "gpt_oss", "openai"),
        ("{% if tools %}{% endif %}", "unheard_of", ""),
        ("<tool_call>", "qwen2", ""),
        ("", "llama", ""),
    ],
)
def test_the_tool_parser_follows_from_the_marks_in_the_template_then_from_the_architecture(
    template: str, architecture: str, parser: str
):
    assert parser_names(template, architecture).tools == parser


@pytest.mark.parametrize(
    ("template", "architecture", "parser", "always_thinks"),
    [
        ("<think>{{ enable_thinking }}", "qwen3", "qwen3", False),
        ("<think>{{ thinking }}", "deepseek_v3", "deepseek_r1", False),
        ("<think>", "qwen2", "deepseek_r1", True),
        ("<think>{{ enable_thinking }}", "glm4_moe", "glm45", False),
        ("", "gpt_oss", "openai_gptoss", True),
        ("think", "granite", "granite", True),
        ("", "granite", "", False),
        ("", "qwen3", "", False),
    ],
)
def test_the_reasoning_parser_follows_from_the_template_and_the_architecture(
    template: str, architecture: str, parser: str, always_thinks: bool
):
    names = parser_names(template, architecture)
    assert (names.thinking, names.always_thinks) == (parser, always_thinks)


def test_the_settings_come_first_and_none_means_no_parser():
    template = f"{HERMES}<think>"
    assert parser_names(template, "qwen2", "mistral", "qwen3") == ParserNames("mistral", "qwen3", True)
    assert parser_names(template, "qwen2", "none", "none") == ParserNames()
