"""Ollama's `options` become sampling parameters of vLLM (reference: `api/types.go`, Options)."""

from __future__ import annotations

import math
from typing import Any

from ..errors import BadRequest
from ..protocol.request import Sampling
from .numbers import as_integer

# Ollama's own values, for parameters that neither the request nor the model sets.
OLLAMA_DEFAULTS = Sampling(temperature=0.8, top_k=40, top_p=0.9)

INTEGERS = ("seed", "num_predict", "top_k", "num_ctx")
FLOATS = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
# Their types are checked and they have no effect: vLLM has no such sampler, or decides it when the model loads.
IGNORED_INTEGERS = ("num_keep", "repeat_last_n", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict")
IGNORED_FLOATS = ("typical_p",)
IGNORED_BOOLEANS = ("use_mmap",)
NAMES = frozenset((*INTEGERS, *FLOATS, "stop", *IGNORED_INTEGERS, *IGNORED_FLOATS, *IGNORED_BOOLEANS))

MIN_CONTEXT = 4


def parse_options(options: dict[str, Any]) -> tuple[Sampling, int | None]:
    """Return the sampling parameters, and num_ctx in tokens (None for the model's own length).

    Unknown options are ignored, as Ollama does. Raises BadRequest that names the option.
    """
    read = _Options(options)
    for name in IGNORED_INTEGERS:
        read.integer(name)
    for name in IGNORED_FLOATS:
        read.number(name)
    for name in IGNORED_BOOLEANS:
        read.boolean(name)
    num_predict, num_ctx, top_k, seed = (read.integer(n) for n in ("num_predict", "num_ctx", "top_k", "seed"))
    sampling = Sampling(
        temperature=read.number("temperature", at_least=0),
        top_k=top_k if top_k is None else max(top_k, 0),
        top_p=read.number("top_p", at_least=0, at_most=1),
        min_p=read.number("min_p", at_least=0, at_most=1),
        repetition_penalty=read.number("repeat_penalty", above=0),
        presence_penalty=read.number("presence_penalty"),
        frequency_penalty=read.number("frequency_penalty"),
        seed=None if seed is not None and seed < 0 else seed,
        stop=read.strings("stop"),
        # With 0 there is one token, which vLLM always generates (docs/reference/differences-from-ollama.md).
        max_tokens=max(num_predict, 1) if num_predict is not None and num_predict >= 0 else None,
    )
    return sampling, None if num_ctx is None or num_ctx <= 0 else max(num_ctx, MIN_CONTEXT)


class _Options:
    """Typed look-ups; null is the same as absent."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def integer(self, name: str) -> int | None:
        value = self._options.get(name)
        if value is None:
            return None
        if isinstance(value, float) and math.isfinite(value):
            value = math.trunc(value)
        integer = as_integer(value)
        if integer is None:
            raise BadRequest(f'option "{name}" must be of type integer')
        return integer

    def number(
        self, name: str, at_least: float = -math.inf, at_most: float = math.inf, above: float = -math.inf
    ) -> float | None:
        value = self._options.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadRequest(f'option "{name}" must be of type float32')
        if not at_least <= value <= at_most or value <= above:
            raise BadRequest(f'option "{name}" is out of range: {value}')
        return float(value)

    def boolean(self, name: str) -> None:
        value = self._options.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadRequest(f'option "{name}" must be of type boolean')

    def strings(self, name: str) -> list[str] | None:
        value = self._options.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise BadRequest(f'option "{name}" must be of type array')
        if not all(isinstance(item, str) for item in value):
            raise BadRequest(f'option "{name}" must be of an array of strings')
        return [item for item in value if item] or None
