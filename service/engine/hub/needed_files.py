"""Select the files of a repository that vLLM needs. Paths in, paths out; reads nothing."""

from __future__ import annotations

import re

# Configuration, tokenizer, chat template, processor, the model's own code; in the top directory, in Transformers' for
# further templates, and in Sentence Transformers' for the modules behind the model ("1_Pooling", "2_Dense").
_TEXT = re.compile(r"((additional_chat_templates|\d+_\w+)/)?[^/]+\.(json|jinja|txt|model|tiktoken|bpe|py|md|ya?ml)\Z")
_LICENSE = re.compile(r"(LICENSE|LICENCE|NOTICE)[^/]*\Z", re.IGNORECASE)
_SAFETENSORS = re.compile(r"(\d+_\w+/)?[^/]+\.safetensors\Z")
_CONSOLIDATED = re.compile(r"consolidated[^/]*\.safetensors\Z")
_PICKLED = re.compile(r"(\d+_\w+/)?pytorch_model[^/]*\.bin\Z")


def needed_files(paths: list[str]) -> list[str]:
    """Return the paths to download, sorted; an empty list where the repository has no weights that vLLM loads.

    Weights are the files that vLLM's default loader takes from a directory (`DefaultModelLoader._prepare_weights`):
    safetensors, otherwise PyTorch's. Mistral's consolidated copy is taken only where there are no other weights.
    """
    weights = [path for path in paths if _SAFETENSORS.match(path)] or [path for path in paths if _PICKLED.match(path)]
    if any("/" not in path and not _CONSOLIDATED.match(path) for path in weights):
        weights = [path for path in weights if not _CONSOLIDATED.match(path)]
    if not weights:
        return []
    return sorted({*weights, *(path for path in paths if _TEXT.match(path) or _LICENSE.match(path))})
