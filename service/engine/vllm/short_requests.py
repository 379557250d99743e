"""Decide which requests are so short that they are prepared on the loop that serves.

A step in a thread costs its wake-ups and waits for the interpreter's lock, several times what a short text takes. In: a
request. Out: whether all of its preparation together is bounded by a few milliseconds, whatever the client sends.
"""

from __future__ import annotations

from ...protocol.request import Chat, Infill, Message, Request, Text

# Tokenizing took up to 2 µs a character, seen with texts made for it.
CHARACTERS = 2048
MESSAGES = 32


def is_short(request: Request) -> bool:
    """Return whether a request has few characters, and nothing whose work depends on more than its length.

    Schemas, tools, images, several answers and a client's own template always take a thread.
    """
    if request.format is not None or request.constraint is not None or request.render_only or request.n > 1:
        return False
    prompt = request.prompt
    if isinstance(prompt, Chat):
        return _is_short_chat(prompt)
    if isinstance(prompt, Text):
        return len(prompt.text) <= CHARACTERS
    if isinstance(prompt, Infill):
        return len(prompt.prefix) + len(prompt.suffix) <= CHARACTERS
    # Token ids are a prompt already.
    return True


def _is_short_chat(chat: Chat) -> bool:
    if chat.tools or chat.template or chat.template_arguments or len(chat.messages) > MESSAGES:
        return False
    return all(map(_is_text, chat.messages)) and sum(map(_characters, chat.messages)) <= CHARACTERS


def _is_text(message: Message) -> bool:
    return isinstance(message.content, str) and not message.tool_calls


def _characters(message: Message) -> int:
    names = len(message.role) + len(message.name) + len(message.tool_name) + len(message.tool_call_id)
    return len(message.content) + len(message.thinking) + names
