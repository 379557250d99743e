"""The content of one message: texts and images in their order."""

from __future__ import annotations

from ..protocol.request import Image


def joined(parts: list[str | Image]) -> str | list[str | Image]:
    """Return one text, with line breaks between the parts, unless there are images among them.

    vLLM's server joins texts so for templates that take strings only (`vllm/entrypoints/chat_utils.py`).
    """
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts
