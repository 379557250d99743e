"""Decide whether a model embeds texts or generates them, as in vLLM (`vllm/config/model.py`, `_get_runner_type`)."""

from __future__ import annotations

from typing import Any

# Suffixes of architectures' names; the first that fits decides. vLLM's table, and the encoders that it lists by name.
_BY_SUFFIX = (
    ("ForCausalLM", False),
    ("ForConditionalGeneration", False),
    ("ChatModel", False),
    ("LMHeadModel", False),
    ("GLMModel", False),
    ("ForTextEncoding", True),
    ("EmbeddingModel", True),
    ("ForMaskedLM", True),
    ("ClassificationModel", False),
    ("RewardModel", False),
    ("Model", True),
)


def embeds(engine_args: dict[str, Any], config: dict[str, Any], modules: list[str]) -> bool:
    """Return whether the model embeds. `config` is its config.json, `modules` its Sentence Transformers modules."""
    runner, convert = engine_args.get("runner", "auto"), engine_args.get("convert", "auto")
    if runner == "generate" or convert == "classify":
        return False
    if runner == "pooling" or convert == "embed":
        return True
    if any(module.endswith(".Pooling") for module in modules):
        return True
    architectures = config.get("architectures") or []
    return any(_is_encoder(str(architecture)) for architecture in architectures[:1])


def _is_encoder(architecture: str) -> bool:
    return next((embeds for suffix, embeds in _BY_SUFFIX if architecture.endswith(suffix)), False)
