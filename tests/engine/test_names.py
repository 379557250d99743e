"""What vLLM is asked for by name: arguments and parsers. Needs vLLM, but no engine."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.vllm.build import check_names
from service.errors import SettingsError


@pytest.mark.parametrize(
    ("engine_args", "tools", "message"),
    [
        ({"max_model_lenn": 3}, "", "engine_args: vLLM has no argument 'max_model_lenn'; did you mean max_model_len?"),
        ({}, "nope", "tool_parser: vLLM has no 'nope'; it has "),
    ],
)
def test_a_name_that_vllm_does_not_have_is_refused_before_the_load(
    engine_args: dict[str, Any], tools: str, message: str
):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        check_names(engine_args, tools)


@pytest.mark.parametrize("tools", ["", "none", "hermes"])
def test_names_that_vllm_has_are_accepted(tools: str):
    # Raises nothing, and returns nothing either.
    assert not check_names({"max_model_len": 3, "structured_outputs_config": {}}, tools)
