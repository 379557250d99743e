"""The special tokens for fill in the middle, by model family."""

from __future__ import annotations

# The tokens before the prefix, before the suffix and before the middle, as the tokenizers spell them.
FIM_TOKENS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)


def fim_tokens(vocabulary: dict[str, int]) -> tuple[str, str, str] | None:
    """Return the tokens before prefix, suffix and middle; None when the vocabulary lacks one of them."""
    return next((tokens for tokens in FIM_TOKENS if all(token in vocabulary for token in tokens)), None)
