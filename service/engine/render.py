"""From a request to the token ids of its prompt. What the model brings (tokenizer, chat template) is handed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..errors import BadRequest
from ..messages import Chat, Infill, Message, Request, Text, Tokens
from ..names import ModelName
from . import go_template

# Ollama's text (`server/prompt.go`), in one line.
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)

# What templates know; Ollama maps "max" so for gpt-oss too.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "high"}

# Where a message stands in a turn of a Go template.
_TURN = ("System", "Prompt", "Response")
_FIELDS = {"system": "System", "user": "Prompt", "assistant": "Response"}

# Before the prefix, before the suffix, before the middle; by family, as their tokenizers spell them.
FIM_TOKENS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)


class Templating(Protocol):
    """The model's side of rendering."""

    def encode(self, text: str) -> list[int]:
        """Token ids with the model's own first token; special tokens in the text count as such."""

    def vocabulary(self) -> dict[str, int]: ...

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> list[int]:
        """Raises BadRequest where the template refuses the messages."""


async def render(request: Request, templating: Templating, limit: int) -> list[int]:
    """The prompt's token ids, fewer than `limit`. Raises BadRequest."""
    prompt = request.prompt
    if isinstance(prompt, Chat):
        return await _render_chat(prompt, request.truncate, templating, limit)
    if isinstance(prompt, Tokens):
        ids = prompt.ids
    elif isinstance(prompt, Text):
        ids = templating.encode(prompt.text)
    else:
        ids = templating.encode(infill_prompt(prompt, request.model, templating.vocabulary()))
    if len(ids) >= limit and request.truncate and isinstance(prompt, Text):
        ids = ids[len(ids) - limit + 1 :]
    return _checked(ids, limit)


def count_images(request: Request) -> int:
    messages = request.prompt.messages if isinstance(request.prompt, Chat) else []
    return sum(len(message.images) for message in messages)


def fim_tokens(vocabulary: dict[str, int]) -> tuple[str, str, str] | None:
    """The tokens that mark prefix, suffix and middle; None for a model that can't fill in."""
    return next((tokens for tokens in FIM_TOKENS if all(token in vocabulary for token in tokens)), None)


def infill_prompt(infill: Infill, model: str, vocabulary: dict[str, int]) -> str:
    tokens = fim_tokens(vocabulary)
    if tokens is None:
        raise BadRequest(f"{ModelName.parse(model).full} does not support insert")
    before_prefix, before_suffix, before_middle = tokens
    return f"{before_prefix}{infill.prefix}{before_suffix}{infill.suffix}{before_middle}"


async def _render_chat(chat: Chat, truncate: bool, templating: Templating, limit: int) -> list[int]:
    async def ids_of(messages: list[Message]) -> list[int]:
        if chat.template:
            ids = templating.encode(render_turns(chat.template, messages))
        else:
            ids = await templating.apply_chat_template(
                [template_message(each) for each in messages],
                add_generation_prompt=True,
                tools=[template_tool(tool) for tool in chat.tools] or None,
                # Keys that a template does not read are dropped; families differ in how they spell this one.
                enable_thinking=bool(chat.think),
                thinking=bool(chat.think),
                **({"reasoning_effort": _EFFORTS[chat.think]} if isinstance(chat.think, str) else {}),
            )
        surplus = len(chat.context) + len(ids) - limit + 1 if truncate else 0
        return chat.context[max(0, surplus) :] + ids

    if not truncate:
        return _checked(await ids_of(chat.messages), limit)
    return await fitting(chat.messages, ids_of, limit)


async def fitting(
    messages: list[Message], ids_of: Callable[[list[Message]], Awaitable[list[int]]], limit: int
) -> list[int]:
    """The prompt of as many of the latest messages as fit; system messages and the last one always stay.

    As Ollama's `server/prompt.go`. Whole messages go, since a cut through the template is no prompt any more; the
    answers of tools go or stay with the call that they answer.
    """
    ids = await ids_of(messages)
    last = len(messages) - 1
    while last > 0 and messages[last].role == "tool":
        last -= 1
    oldest = 0
    while len(ids) >= limit and oldest < last:
        oldest += 1
        while messages[oldest].role == "tool":
            oldest += 1
        ids = await ids_of([m for m in messages[:oldest] if m.role == "system"] + messages[oldest:])
    return _checked(ids, limit)


def _checked(ids: list[int], limit: int) -> list[int]:
    if not ids:
        raise BadRequest("the prompt is empty")
    if len(ids) >= limit:
        raise BadRequest(TOO_LONG)
    return ids


def template_message(message: Message) -> dict[str, Any]:
    """In the words of the chat templates, which are OpenAI's."""
    fields = {
        "role": message.role,
        "content": message.content,
        "reasoning": message.thinking,
        "tool_calls": message.tool_calls,
        "name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in fields.items() if value or name in ("role", "content")}


def render_turns(template: str, messages: list[Message]) -> str:
    """A conversation by a Go template that knows one turn: it is rendered for each, and up to `.Response` for the last.

    As Ollama's `template/template.go` does for templates without `.Messages`.
    """
    rendered, turn = [], dict.fromkeys(_TURN, "")
    for message in messages:
        field = _FIELDS.get(message.role, "Prompt")
        # A turn is over when what comes next belongs before what it holds already.
        if any(turn[later] for later in _TURN[_TURN.index(field) + 1 :]):
            rendered.append(go_template.render(template, turn))
            turn = dict.fromkeys(_TURN, "")
        turn[field] = "\n\n".join(text for text in (turn[field], message.text) if text)
    begun = turn.pop("Response")
    return "".join([*rendered, go_template.render(template, turn), begun])


def template_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return tool if "function" in tool else {"type": "function", "function": tool}
