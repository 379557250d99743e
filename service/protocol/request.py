"""The one internal request, and its parts."""

from __future__ import annotations

from typing import Any

import msgspec


class Struct(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Arrays instead of maps: field order is the protocol; new fields go last and have a default."""


class Image(msgspec.Struct, frozen=True):
    """An image's file: PNG, JPEG, or what else the model's processor reads."""

    data: bytes


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, in the words of the chat templates.

    Content with images is a list of its texts and its images, in order.
    """

    role: str
    content: str | list[str | Image] = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []
    tool_name: str = ""
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """The content without its images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def images(self) -> list[Image]:
        return [] if isinstance(self.content, str) else [part for part in self.content if isinstance(part, Image)]


class Chat(Struct):
    """Messages for the model's chat template, or for `template`, a Go template of the client's.

    `context` holds the token ids of an earlier exchange, which go before the rendered prompt. `tool_choice` is "auto",
    "none" or "required"; `forced_tool` names the one tool that must be called. Without `parallel_tool_calls` the
    answer holds one call at the most. Where the model can't think, `think` is refused, or without `must_think` ignored.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = []
    think: bool | str | None = None
    template: str = ""
    context: list[int] = []
    tool_choice: str = "auto"
    forced_tool: str = ""
    parallel_tool_calls: bool = True
    must_think: bool = True


class Text(Struct):
    """A prompt that no template touches."""

    text: str


class Tokens(Struct):
    """A prompt in token ids."""

    ids: list[int]


class Infill(Struct):
    """Fill in the middle, between `prefix` and `suffix`."""

    prefix: str
    suffix: str


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to choose tokens, in vLLM's terms. None: the next one decides (request, model, dialect, vLLM)."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    logit_bias: dict[int, float] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asks, by the name of the key, and how much of one model he may have; 0: any number.

    Lower priorities go first, as in vLLM. `max_concurrent` counts requests, waiting ones too; the others are tokens.
    """

    name: str = ""
    priority: int = 0
    max_concurrent: int = 0
    tokens_per_minute: int = 0
    max_prompt_tokens: int = 0
    max_output_tokens: int = 0


class SoFar(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client has of one answer whose engine was lost: the state of a move, and of a client that comes back.

    `token_ids` are the answer's tokens. `text` and `thinking` count characters, `calls` whole tool calls.
    """

    token_ids: list[int]
    text: int = 0
    thinking: int = 0
    calls: int = 0


class Request(msgspec.Struct, frozen=True):
    """One generation, whichever dialect asked for it.

    `defaults` are the dialect's, beneath the model's own. `context_limit` (tokens) caps prompt and answer together.
    `truncate`: a prompt that is too long loses its oldest turns instead of being refused. `format` is "json" or a
    JSON schema that the answer must fit. `logprobs`: the alternatives to tell beside each token; None tells nothing.
    `n` answers to the one prompt are generated, told apart by the `index` of their events. `render_only`: the answer is
    the prompt as the model would get it. `echo`: each answer begins with a delta of the prompt itself, which covers no
    token of the answer; with `logprobs` the prompt's are in it. `adapter` is the directory of a LoRA adapter, which
    only the model's own defaults name. `request_id` is for logs, `traceparent` (W3C Trace Context) for traces.
    `so_far`: another engine has begun the one answer, and the events continue where it ended.
    """

    model: str
    prompt: Chat | Text | Tokens | Infill
    sampling: Sampling = Sampling()
    defaults: Sampling = Sampling()
    truncate: bool = True
    context_limit: int | None = None
    format: str | dict[str, Any] | None = None
    logprobs: int | None = None
    return_context: bool = False
    n: int = 1
    render_only: bool = False
    echo: bool = False
    adapter: str = ""
    request_id: str = ""
    caller: Caller = Caller()
    traceparent: str = ""
    so_far: SoFar | None = None


class Defaults(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model's declaration adds to each request, beneath what the request says itself.

    Several models may share an engine and differ in these alone, so they come with the request. `context_limit` is in
    tokens, `messages` go before those of a chat, `template` is a Go template, `adapter` a LoRA adapter's directory.
    """

    sampling: Sampling = Sampling()
    context_limit: int | None = None
    system: str = ""
    messages: list[Message] = []
    template: str = ""
    adapter: str = ""


class EmbedRequest(msgspec.Struct, frozen=True):
    """Texts to embed, each on its own.

    Of a vector with more than `dimensions` numbers that many are kept; 0 keeps all. `context_limit` (tokens) caps
    each text; `truncate`: a longer one is cut instead of refused.
    """

    model: str
    inputs: list[str]
    dimensions: int = 0
    truncate: bool = True
    context_limit: int | None = None
    request_id: str = ""
    caller: Caller = Caller()
    traceparent: str = ""
