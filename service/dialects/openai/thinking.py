"""Read whether a chat thinks. OpenAI has an effort; the APIs that copied its chats have switches of their own.

It never knows whether the model can think.
"""

from __future__ import annotations

from typing import Any

from ...errors import BadRequest
from ..fields import Fields
from .parameters import think

# The types of `thinking`, as GLM, DeepSeek, Kimi and Doubao have it beside Anthropic.
SWITCHES: dict[str, bool | None] = {"enabled": True, "disabled": False, "adaptive": None, "auto": None}


def parse_think(fields: Fields, switch: bool | None) -> bool | str | None:
    """Return the effort, else whether a switch turns thinking on or off; None leaves that to the model.

    `switch` is that of the template's arguments. The first of these decides: `reasoning.effort`, `reasoning_effort`,
    OpenRouter's `reasoning.enabled`, Ollama's `think`, `thinking.type`, Qwen's `enable_thinking`, `switch`. Raise
    BadRequest.
    """
    reasoning = fields.child("reasoning", "openai.Reasoning")
    for effort, place in (
        (reasoning.string("effort"), "reasoning.effort"),
        (fields.string("reasoning_effort"), "reasoning_effort"),
        (_level(fields.get("think")), "think"),
    ):
        if effort:
            return think(effort, place)
    switches = (
        _switch(reasoning.get("enabled"), "reasoning.enabled"),
        _switch(fields.get("think"), "think"),
        _thinking_type(fields),
        _switch(fields.get("enable_thinking"), "enable_thinking"),
    )
    return next((each for each in switches if each is not None), switch)


def shows_thinking(fields: Fields) -> bool:
    """Return whether the thoughts are sent: vLLM's `include_reasoning`, and OpenRouter's `reasoning.exclude`."""
    excluded = _switch(fields.child("reasoning", "openai.Reasoning").get("exclude"), "reasoning.exclude")
    return fields.boolean("include_reasoning", True) and not excluded


def _level(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _switch(value: Any, place: str) -> bool | None:
    if value is None or (isinstance(value, (bool, str)) and value in (True, False, "")):
        return value if isinstance(value, bool) else None
    raise BadRequest(f"{place} must be true or false", param=place, code="invalid_type")


def _thinking_type(fields: Fields) -> bool | None:
    kind = fields.child("thinking", "openai.Thinking").string("type")
    if kind and kind not in SWITCHES:
        allowed = ", ".join(f'"{name}"' for name in SWITCHES)
        raise BadRequest(f'invalid thinking.type "{kind}": must be one of {allowed}', param="thinking.type")
    return SWITCHES.get(kind)
