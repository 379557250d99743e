"""Turns a request into its prompt in token ids. The caller brings the model's tokenizer, template and processor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from ...errors import BadRequest, PromptTooLong
from ...models.infill import fim_tokens
from ...protocol.request import Chat, Image, Infill, Message, Request, Text, Tokens
from ...syntax.go_template import GoTemplate, TextTooLong
from ...syntax.names import ModelName
from .fitting import DROPPED, Conversation, length, longest_fit
from .message_orders import FormFinder

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

T = TypeVar("T")


class Prompt(NamedTuple):
    """Token ids, those of the images included, and what the model's processor made of the images.

    `media` is None when there are no images. Its places count from the start of the rendered messages, which are the
    end of `ids`.
    """

    ids: list[int]
    media: Any = None


# Renders messages. None stands for a text that is longer than the context in any tokenizer.
Rendering = Callable[[list[Message]], Awaitable[Prompt | None]]


class Templating(Protocol):
    """The model's side of rendering, for one caller. It decides where the steps run.

    `longest_token` is the length of the vocabulary's longest token in characters.
    """

    longest_token: int

    async def run(self, work: Callable[..., T], *arguments: Any) -> T: ...

    async def encode(self, text: str) -> list[int]:
        """Return token ids, with the model's own first token. Special tokens in the text become special tokens."""

    def vocabulary(self) -> dict[str, int]: ...

    async def read_images(self, images: list[Image]) -> dict[Image, Any]:
        """Return each image as a template's message holds it. Raises BadRequest when an image can't be read."""

    async def apply_chat_template(self, messages: list[dict[str, Any]], **arguments: Any) -> Prompt:
        """Render messages. Raises BadRequest when the template or the images' processor refuses them."""


class Room(NamedTuple):
    """How long a prompt may be: it has fewer than `tokens` tokens, so at most `characters` characters."""

    tokens: int
    characters: int
    longest_token: int

    @classmethod
    def of(cls, tokens: int, longest_token: int) -> Room:
        return cls(tokens, tokens * longest_token, longest_token)

    def check_text(self, characters: int) -> None:
        """Raise PromptTooLong for a text that is too long in any tokenizer, before it is tokenized."""
        if characters > self.characters:
            raise self.too_long(characters // self.longest_token)

    def check(self, prompt: Prompt) -> Prompt:
        """Return the prompt. Raises BadRequest, and PromptTooLong when it has too many tokens."""
        if not prompt.ids:
            raise BadRequest("the prompt is empty")
        if len(prompt.ids) >= self.tokens:
            raise self.too_long(len(prompt.ids))
        return prompt

    def too_long(self, tokens: int) -> PromptTooLong:
        """Return the error of a prompt with this many tokens, or with those of the context where that is more."""
        tokens = max(tokens, self.tokens)
        numbers = f"the prompt has {tokens} tokens, and the maximum context length is {self.tokens} tokens"
        return PromptTooLong(f"{TOO_LONG}; {numbers}", tokens=tokens, limit=self.tokens)


async def render(request: Request, templating: Templating, limit: int) -> Prompt:
    """Return the prompt, in fewer tokens than `limit`. Raises BadRequest."""
    prompt, room = request.prompt, Room.of(limit, templating.longest_token)
    if isinstance(prompt, Chat):
        rendered = await _render_chat(prompt, request, templating, room)
    elif isinstance(prompt, Tokens):
        rendered = Prompt(prompt.ids)
    elif isinstance(prompt, Text):
        rendered = Prompt(await _encode_text(prompt.text, request, templating, room))
    else:
        text = infill_prompt(prompt, request.model, templating.vocabulary())
        room.check_text(len(text))
        rendered = Prompt(await templating.encode(text))
    return room.check(_shortened(rendered, request, limit))


async def _encode_text(text: str, request: Request, templating: Templating, room: Room) -> list[int]:
    """Return the tokens of a text, the last ones alone when it is too long and may be cut."""
    if request.prompt_tokens is not None:
        text = text[: room.characters] if request.keep_start else text[-room.characters :]
    elif request.truncate:
        text = text[-room.characters :]
    room.check_text(len(text))
    ids = await templating.encode(text)
    return ids[len(ids) - room.tokens + 1 :] if len(ids) >= room.tokens and request.truncate else ids


def _shortened(prompt: Prompt, request: Request, limit: int) -> Prompt:
    """Keep as many tokens as the request asks for (vLLM's `truncate_prompt_tokens`). A prompt with images stays."""
    if request.prompt_tokens is None or prompt.media is not None:
        return prompt
    most = _kept_tokens(request.prompt_tokens, limit)
    if len(prompt.ids) <= most:
        return prompt
    return Prompt(prompt.ids[:most] if request.keep_start else prompt.ids[len(prompt.ids) - most :])


def _kept_tokens(prompt_tokens: int, limit: int) -> int:
    """Return how many tokens a prompt keeps that may have fewer than `limit`; -1 asks for as many as fit."""
    return min(limit - 1, prompt_tokens) if prompt_tokens >= 0 else limit - 1


def count_images(request: Request) -> int:
    messages = request.prompt.messages if isinstance(request.prompt, Chat) else []
    return sum(len(message.images) for message in messages)


def infill_prompt(infill: Infill, model: str, vocabulary: dict[str, int]) -> str:
    """Return the prompt for a gap, with the model's own tokens. Raises BadRequest when the model has none."""
    tokens = fim_tokens(vocabulary)
    if tokens is None:
        raise BadRequest(f"{ModelName.parse(model).full} does not support insert")
    before_prefix, before_suffix, before_middle = tokens
    return f"{before_prefix}{infill.prefix}{before_suffix}{infill.suffix}{before_middle}"


async def _render_chat(chat: Chat, request: Request, templating: Templating, room: Room) -> Prompt:
    cuts = request.truncate and request.prompt_tokens is None
    # When the last tokens are kept, the oldest messages of a very long conversation need not be rendered.
    ends = request.prompt_tokens is not None and not request.keep_start
    conversation, first = await _first_fit(chat, templating, room, cuts or ends)
    rendering = await _rendering(chat, templating, room)

    async def prompt_of(messages: list[Message]) -> Prompt | None:
        prompt = await rendering(messages)
        if prompt is None:
            return None
        surplus = len(chat.context) + len(prompt.ids) - room.tokens + 1 if cuts else 0
        return prompt._replace(ids=chat.context[max(0, surplus) :] + prompt.ids)

    def tokens(prompt: Prompt | None) -> int:
        # The length of a text that is not tokenized does not matter, since it is too long.
        return room.tokens * 2 if prompt is None else len(prompt.ids)

    if cuts:
        rendered = await longest_fit(conversation, first, prompt_of, tokens, room.tokens)
    else:
        rendered = await prompt_of(conversation.after(first))
    if rendered is None:
        raise room.too_long(room.tokens)
    if first and request.prompt_tokens is not None:
        kept = _kept_tokens(request.prompt_tokens, room.tokens)
        if len(rendered.ids) < kept:
            # Some of the tokens to keep are in a message that is too long to be rendered.
            raise room.too_long(room.tokens)
    return rendered


async def _first_fit(chat: Chat, templating: Templating, room: Room, cuts: bool) -> tuple[Conversation, int]:
    """Return the conversation, and the first place after which the rest can fit.

    Raises PromptTooLong when nothing can fit, and, unless the conversation may be cut, when not all of it can.
    """
    room.check_text(await templating.run(_characters_beside, chat))
    conversation = await templating.run(Conversation, chat.messages)
    first = await templating.run(conversation.first_within, room.characters, room.tokens)
    if first == len(conversation) or (first and not cuts):
        shortest = conversation.after(len(conversation) - 1 if cuts else 0)
        raise room.too_long(sum(map(length, shortest)) // room.longest_token)
    return conversation, first


async def _rendering(chat: Chat, templating: Templating, room: Room) -> Rendering:
    """Return the function that renders messages: by the client's Go template, else by the model's chat template."""
    pictures = await templating.read_images([image for message in chat.messages for image in message.images])
    template = await templating.run(GoTemplate, chat.template) if chat.template else None

    async def by_turns(messages: list[Message]) -> Prompt | None:
        try:
            text = await templating.run(render_turns, template, messages, room.characters)
        except TextTooLong:
            return None
        return Prompt(await templating.encode(text))

    async def templated(messages: list[Message]) -> Prompt:
        written = await templating.run(_template_messages, messages, pictures)
        return await templating.apply_chat_template(written, **_template_arguments(chat))

    return FormFinder(templated) if template is None else by_turns


def _characters_beside(chat: Chat) -> int:
    """Return how many characters a template writes at the least of what stands beside the messages, as in `length`."""
    return sum(len(msgspec.json.encode(each)) for each in (chat.tools, chat.template_arguments) if each) // DROPPED


def _template_arguments(chat: Chat) -> dict[str, Any]:
    """Return what a chat template gets beside the messages. Model families spell the switch of thinking in two ways."""
    arguments: dict[str, Any] = {
        "add_generation_prompt": chat.add_generation_prompt and not chat.continue_final,
        "tools": [template_tool(tool) for tool in chat.tools] or None,
        "enable_thinking": bool(chat.think),
        "thinking": bool(chat.think),
    }
    if chat.continue_final:
        arguments["continue_final_message"] = True
    if isinstance(chat.think, str):
        arguments["reasoning_effort"] = _EFFORTS[chat.think]
    # vLLM drops the names that the template does not read.
    return arguments | chat.template_arguments


def _template_messages(messages: list[Message], pictures: Mapping[Image, Any]) -> list[dict[str, Any]]:
    return [template_message(each, pictures) for each in messages]


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
        "name": message.tool_name or message.name,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in fields.items() if value or name in ("role", "content")}


def render_turns(template: GoTemplate, messages: list[Message], limit: int) -> str:
    """Return a conversation rendered by a Go template of one turn: once for each turn, the last up to `.Response`.

    As Ollama's `template/template.go` does for templates without `.Messages`. Raises TextTooLong when the text has more
    than `limit` characters.
    """
    rendered, turn, room = list[str](), dict.fromkeys(_TURN, ""), limit
    for message in messages:
        field = _FIELDS.get(message.role, "Prompt")
        # A turn is complete when the next message belongs before a part that the turn has already.
        if any(turn[later] for later in _TURN[_TURN.index(field) + 1 :]):
            rendered.append(template.render(turn, room))
            room -= len(rendered[-1])
            turn = dict.fromkeys(_TURN, "")
        turn[field] = "\n\n".join(text for text in (turn[field], message.text) if text)
    begun = turn.pop("Response")
    return "".join([*rendered, template.render(turn, max(0, room)), begun])


def template_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool as chat templates have it: a function below its type."""
    return tool if "function" in tool else {"type": "function", "function": tool}
