"""The marks in a model's answers, as vLLM's parsers know them. Reads attributes of vLLM 0.32's parsers."""

from __future__ import annotations

from typing import Any

from vllm.parser import Parser

from .raw_text import Envelope


def is_engine_based(parser: Parser) -> bool:
    """Return whether the tool parser is one of vLLM's newer ones, which accept calls that are cut off."""
    return bool(getattr(parser.tool_parser, "engine_based_streaming", False))


def _engine_config(parser: Parser) -> Any:
    """Return the format that one of vLLM's newer parsers reads; None for the others."""
    engine = getattr(parser.tool_parser, "_parser_engine", None)
    return getattr(engine, "parser_engine_config", None)


def call_envelope(parser: Parser) -> Envelope | None:
    """Return the marks around a call of this model; None when it writes calls without marks, or without an end."""
    marks: list[Any] = [getattr(parser.tool_parser, f"tool_call_{side}_token", None) for side in ("start", "end")]
    if (config := _engine_config(parser)) is not None:
        marks = [config.terminal_literal("TOOL_START"), config.terminal_literal("TOOL_END")]
    return Envelope(*marks) if all(isinstance(mark, str) and mark for mark in marks) else None


def other_marks(parser: Parser, tokenizer: Any) -> list[str]:
    """Return the marks that a parser swallows, but for those around a call; the longest first."""
    found: set[Any] = set(getattr(tokenizer, "all_special_tokens", []))
    for side in ("start", "end"):
        found.add(getattr(parser.reasoning_parser, f"reasoning_{side}_str", None))
        found.add(getattr(parser.tool_parser, f"tool_calls_{side}_token", None))
    if (config := _engine_config(parser)) is not None:
        found |= config.terminal_literals
    calls = set(call_envelope(parser) or ())
    return sorted((mark for mark in found - calls if isinstance(mark, str) and len(mark) > 1), key=len, reverse=True)
