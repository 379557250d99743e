"""Turns a request into its prompt in token ids. The caller brings the model's tokenizer, template and processor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ...errors import BadRequest, PromptTooLong
from ...models.infill import fim_tokens
from ...protocol.request import Chat, Image, Infill, Message, Request, Text, Tokens
from ...syntax import go_template
from ...syntax.names import ModelName

# Ollama's text (`server/prompt.go`), in one line.
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)

# The efforts that chat templates take. Ollama maps "max" for gpt-oss in the same way.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "high"}

# The parts of a turn in a Go template, in their order, and the part for each role.
_TURN = ("System", "Prompt", "Response")
_FIELDS = {"system": "System", "user": "Prompt", "assistant": "Response"}


class Prompt(NamedTuple):
    """Token ids, those of the images included, and what the model's processor made of the images.

    `media` is None when there are no images. Its places count from the start of the rendered messages, which are the
    end of `ids`.
    """

    ids: list[int]
    media: Any = None


class Templating(Protocol):
    """The model's side of rendering."""

    def encode(self, text: str) -> list[int]:
        """Return token ids, with the model's own first token. Special tokens in the text become special tokens."""

    def vocabulary(self) -> dict[str, int]: ...

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        """Return each image as a template's message holds it. Raises BadRequest when an image can't be read."""

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        """Render messages. Raises BadRequest when the template or the images' processor refuses them."""


async def render(request: Request, templating: Templating, limit: int) -> Prompt:
    """Return the prompt, in fewer tokens than `limit`. Raises BadRequest."""
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
    return _checked(Prompt(ids), limit)


def count_images(request: Request) -> int:
    messages = request.prompt.messages if isinstance(request.prompt, Chat) else []
    return sum(len(message.images) for message in messages)


def infill_prompt(infill: Infill, model: str, vocabulary: dict[str, int]) -> str:
    tokens = fim_tokens(vocabulary)
    if tokens is None:
        raise BadRequest(f"{ModelName.parse(model).full} does not support insert")
    before_prefix, before_suffix, before_middle = tokens
    return f"{before_prefix}{infill.prefix}{before_suffix}{infill.suffix}{before_middle}"


async def _render_chat(chat: Chat, truncate: bool, templating: Templating, limit: int) -> Prompt:
    pictures = await templating.read_images([image for message in chat.messages for image in message.images])

    async def prompt_of(messages: list[Message]) -> Prompt:
        if chat.template:
            prompt = Prompt(templating.encode(render_turns(chat.template, messages)))
        else:
            prompt = await templating.apply_chat_template(
                [template_message(each, pictures) for each in messages],
                add_generation_prompt=True,
                tools=[template_tool(tool) for tool in chat.tools] or None,
                # Model families spell this key in several ways; vLLM drops those that the template does not read.
                enable_thinking=bool(chat.think),
                thinking=bool(chat.think),
                **({"reasoning_effort": _EFFORTS[chat.think]} if isinstance(chat.think, str) else {}),
            )
        surplus = len(chat.context) + len(prompt.ids) - limit + 1 if truncate else 0
        return prompt._replace(ids=chat.context[max(0, surplus) :] + prompt.ids)

    if not truncate:
        return _checked(await prompt_of(chat.messages), limit)
    return await fitting(chat.messages, prompt_of, limit)


async def fitting(
    messages: list[Message], prompt_of: Callable[[list[Message]], Awaitable[Prompt]], limit: int
) -> Prompt:
    """Return the prompt of as many of the latest messages as fit; system messages and the last one always stay.

    As Ollama's `server/prompt.go`. Whole messages are dropped, since a template that is cut is not a valid prompt. The
    results of tools are dropped together with their call.
    """
    prompt = await prompt_of(messages)
    last = len(messages) - 1
    while last > 0 and messages[last].role == "tool":
        last -= 1
    oldest = 0
    while len(prompt.ids) >= limit and oldest < last:
        oldest += 1
        while messages[oldest].role == "tool":
            oldest += 1
        prompt = await prompt_of([m for m in messages[:oldest] if m.role == "system"] + messages[oldest:])
    return _checked(prompt, limit)


def _checked(prompt: Prompt, limit: int) -> Prompt:
    if not prompt.ids:
        raise BadRequest("the prompt is empty")
    if (tokens := len(prompt.ids)) >= limit:
        numbers = f"the prompt has {tokens} tokens, and the maximum context length is {limit} tokens"
        raise PromptTooLong(f"{TOO_LONG}; {numbers}", tokens=tokens, limit=limit)
    return prompt


def template_message(message: Message, pictures: Mapping[Image, Any]) -> dict[str, Any]:
    """Return a message under OpenAI's names, which chat templates use; texts and images stay in their order."""
    content: str | list[Any] = message.content
    if not isinstance(content, str):
        content = [pictures[part] if isinstance(part, Image) else {"type": "text", "text": part} for part in content]
    fields = {
        "role": message.role,
        "content": content,
        "reasoning": message.thinking,
        "tool_calls": message.tool_calls,
        "name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in fields.items() if value or name in ("role", "content")}


def render_turns(template: str, messages: list[Message]) -> str:
    """Return a conversation rendered by a Go template of one turn: once for each turn, the last up to `.Response`.

    As Ollama's `template/template.go` does for templates without `.Messages`. Raises BadRequest.
    """
    rendered, turn = [], dict.fromkeys(_TURN, "")
    for message in messages:
        field = _FIELDS.get(message.role, "Prompt")
        # A turn is complete when the next message belongs before a part that the turn has already.
        if any(turn[later] for later in _TURN[_TURN.index(field) + 1 :]):
            rendered.append(go_template.render(template, turn))
            turn = dict.fromkeys(_TURN, "")
        turn[field] = "\n\n".join(text for text in (turn[field], message.text) if text)
    begun = turn.pop("Response")
    return "".join([*rendered, go_template.render(template, turn), begun])


def template_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return tool if "function" in tool else {"type": "function", "function": tool}
