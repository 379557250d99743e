"""The tokens that a model fills in the middle with."""

from __future__ import annotations




# Before the prefix, before the suffix, before the middle; by family, as their tokenizers spell them.
FIM_TOKENS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)



def fim_tokens(vocabulary: dict[str, int]) -> tuple[str, str, str] | None:
    """The tokens that mark prefix, suffix and middle; None for a model that can't fill in."""
    return next((tokens for tokens in FIM_TOKENS if all(token in vocabulary for token in tokens)), None)
