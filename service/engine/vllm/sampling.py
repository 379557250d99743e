"""Turns Sampling into arguments of vLLM's `SamplingParams`: three layers, and the limits that vLLM sets."""

from __future__ import annotations

from typing import Any

import msgspec

from ...protocol.request import Sampling

# vLLM refuses values outside; the dialects allow wider ranges.
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 2.0
MIN_TOP_P = 1e-6
MAX_SEED = 2**63 - 1
# vLLM takes lower temperatures for greedy sampling, of which it refuses several answers. OpenAI gives them, all alike.
GREEDY_TEMPERATURE = 1e-5
LIKELIEST = {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "min_p": 0.0}


def sampling_arguments(
    request: Sampling, model: dict[str, Any], dialect: Sampling, room: int, answers: int = 1
) -> dict[str, Any]:
    """Return the arguments that are set. A value comes from, in this order: the request, the model, the dialect.

    `model` holds generation_config.json's defaults, `room` the tokens that the context has left for the answer.
    `answers` is how many answers the prompt gets.
    """
    known = set(Sampling.__struct_fields__)
    layers = msgspec.to_builtins(dialect), model, msgspec.to_builtins(request)
    chosen = {name: value for layer in layers for name, value in layer.items() if name in known and value is not None}
    limits = {
        "temperature": lambda value: min(value, MAX_TEMPERATURE),
        "top_p": lambda value: max(value, MIN_TOP_P),
        "presence_penalty": lambda value: max(-MAX_PENALTY, min(value, MAX_PENALTY)),
        "frequency_penalty": lambda value: max(-MAX_PENALTY, min(value, MAX_PENALTY)),
        "seed": lambda value: min(value, MAX_SEED),
    }
    arguments = {name: limits[name](value) if name in limits else value for name, value in chosen.items()}
    if answers > 1 and arguments.get("temperature", 1.0) < GREEDY_TEMPERATURE:
        arguments |= LIKELIEST
    # Without this vLLM ends after 16 tokens. It generates at least one, so 0 becomes 1.
    arguments["max_tokens"] = max(1, min(arguments.get("max_tokens", room), room))
    return arguments
