"""Distinguish conversations by a hash of their beginning.

A chat begins with its system messages and its first question, whatever follows. The host sends requests with the same
beginning to the same replica of a model, which has what came before in its prefix cache.
"""

from __future__ import annotations

from hashlib import blake2b

from ..protocol.request import Chat, Image, Infill, Request, Text

# Two conversations with so long a common beginning share most of a prefix cache, too. Characters of a text, bytes of an
# image, tokens.
TEXT, IMAGE, TOKENS = 2000, 2000, 500
# A prompt without a template grows at its end, so that only its first words stay.
PROMPT = 200


def beginning(request: Request) -> str:
    """Return the hash of a request's beginning, a few characters; equal for the turns of one conversation."""
    prompt = request.prompt
    if isinstance(prompt, Chat):
        parts = _first_turn(prompt)
    elif isinstance(prompt, Text):
        parts = [prompt.text[:PROMPT].encode(errors="replace")]
    elif isinstance(prompt, Infill):
        parts = [prompt.prefix[:PROMPT].encode(errors="replace")]
    else:
        parts = [repr(prompt.ids[:TOKENS]).encode()]
    hashed = blake2b(digest_size=12)
    for part in parts:
        hashed.update(part)
        hashed.update(b"\0")
    return hashed.hexdigest()


def _first_turn(chat: Chat) -> list[bytes]:
    """Return the texts and images up to the first question, and the tokens before them."""
    parts = [repr(chat.context[:TOKENS]).encode()] if chat.context else []
    for message in chat.messages:
        content = [message.content] if isinstance(message.content, str) else message.content
        for part in content:
            parts.append(part.data[:IMAGE] if isinstance(part, Image) else part[:TEXT].encode(errors="replace"))
        if message.role == "user":
            break
    return parts
