"""Whether a text fits a constraint, as xgrammar sees it. Needs vLLM and the demo's tokenizer, but no engine."""

from __future__ import annotations

from functools import cache
from typing import Any

import xgrammar
from vllm.tokenizers import get_tokenizer

from tests.support.servers import ROOT


@cache
def tokenizer() -> Any:
    return get_tokenizer(str(ROOT / "models/demo"))


@cache
def compiler() -> xgrammar.GrammarCompiler:
    return xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(tokenizer()), max_threads=1)


def accepts(constraint: Any, text: str) -> bool:
    """Whether the text is a whole answer under the constraint."""
    grammar = compiler().compile_structural_tag(constraint.structural_tag)
    matcher = xgrammar.GrammarMatcher(grammar, override_stop_tokens=[tokenizer().eos_token_id])
    return matcher.accept_string(text) and matcher.accept_token(tokenizer().eos_token_id)
