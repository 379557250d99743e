"""The one internal request, and its parts.

Every dialect parses its bodies into a Request or an EmbedRequest, and the engine knows nothing else of a request.
"""

from __future__ import annotations

from typing import Any, Optional, Union

import msgspec


class Struct(msgspec.Struct, array_like=True, tag=True, gc=False):
    """A message as an array, not a map: the order of fields is the protocol. New fields go last and have a default."""


class Image(msgspec.Struct, frozen=True):
    """An image file: PNG, JPEG, or another format that the model's processor reads."""

    data: bytes


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, with the field names of chat templates. `name` is that of its author.

    Content with images is a list of texts and images, in order.
    """

    role: str
    content: Union[str, list[Union[str, Image]]] = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []
    tool_name: str = ""
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """Return the content without its images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def images(self) -> list[Image]:
        return [] if isinstance(self.content, str) else [part for part in self.content if isinstance(part, Image)]


class Chat(Struct):
    """Messages for the model's chat template, or for `template`, a Go template that the client sent.

    `context` holds the token ids of an earlier exchange, which go before the rendered prompt. `tool_choice` is "auto",
    "none" or "required"; `forced_tool` names the one tool that must be called. Without `parallel_tool_calls` the
    answer holds one call at the most. A model that can't think refuses `think`, or ignores it without `must_think`.
    Without `show_thinking` the thinking is generated and dropped. `continue_final`: the answer goes on from the last
    message. Without `add_generation_prompt` the template opens no turn for the answer. `template_arguments` are vLLM's
    `chat_template_kwargs`, which go over our own.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = []
    think: Optional[Union[bool, str]] = None
    template: str = ""
    context: list[int] = []
    tool_choice: str = "auto"
    forced_tool: str = ""
    parallel_tool_calls: bool = True
    must_think: bool = True
    show_thinking: bool = True
    continue_final: bool = False
    add_generation_prompt: bool = True
    template_arguments: dict[str, Any] = {}


class Text(Struct):
    """A prompt that is used as it is, without a template."""

    text: str


class Tokens(Struct):
    """A prompt as token ids."""

    ids: list[int]


class Infill(Struct):
    """A gap to fill between `prefix` and `suffix`."""

    prefix: str
    suffix: str


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling parameters, named as in vLLM.

    A field that is None is taken from the next layer: request, then model, then dialect, then vLLM's default.
    """

    temperature: Optional[float] = None
    top_k: Optional[int] = None
    top_p: Optional[float] = None
    min_p: Optional[float] = None
    repetition_penalty: Optional[float] = None
    presence_penalty: Optional[float] = None
    frequency_penalty: Optional[float] = None
    seed: Optional[int] = None
    stop: Optional[list[str]] = None
    max_tokens: Optional[int] = None
    min_tokens: Optional[int] = None
    logit_bias: Optional[dict[int, float]] = None
    stop_token_ids: Optional[list[int]] = None
    ignore_eos: Optional[bool] = None
    bad_words: Optional[list[str]] = None
    include_stop_str_in_output: Optional[bool] = None
    allowed_token_ids: Optional[list[int]] = None
    skip_special_tokens: Optional[bool] = None
    spaces_between_special_tokens: Optional[bool] = None
    thinking_token_budget: Optional[int] = None


class Constraint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A form that vLLM gives an answer, other than JSON. One field is set; `structural_tag` is xgrammar's, as JSON."""

    regex: str = ""
    choice: list[str] = []
    grammar: str = ""
    structural_tag: str = ""


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """The key that a request came with, by its name, and its limits for one model. There is no limit where one is 0.

    Lower priorities go first, as in vLLM. `max_concurrent` counts running and waiting requests; the other limits are in
    tokens.
    """

    name: str = ""
    priority: int = 0
    max_concurrent: int = 0
    tokens_per_minute: int = 0
    max_prompt_tokens: int = 0
    max_output_tokens: int = 0


class SoFar(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part that a client has of one answer whose engine was lost.

    `token_ids` are the answer's tokens. `text` and `thinking` count characters, `calls` whole tool calls.
    """

    token_ids: list[int]
    text: int = 0
    thinking: int = 0
    calls: int = 0


class Request(msgspec.Struct, frozen=True):
    """One generation of any dialect.

    - `defaults` are the dialect's; the model's own come before them.
    - `truncate`: a prompt that is too long loses its oldest turns instead of being refused.
    - `context_limit` (tokens) limits prompt and answer together.
    - `format` is "json" or a JSON schema that the answer must fit.
    - `logprobs` is how many alternatives are reported with each token; None reports no log probabilities.
    - `n` answers to the one prompt are generated; the `index` of an event is the number of its answer.
    - `render_only`: the answer is the prompt as the model would get it.
    - `echo`: each answer begins with a delta of the prompt, which covers no token of the answer. With `logprobs` it
      holds those of the prompt.
    - `adapter` is the directory of a LoRA adapter; only the model's own defaults set it.
    - `so_far`: another engine has begun the one answer, and the events continue where it ended.
    - `request_id` is for logs, `traceparent` (W3C Trace Context) for traces.
    - `constraint` takes the place of `format`.
    - `prompt_tokens`: of a longer prompt that many tokens are kept (vLLM's `truncate_prompt_tokens`), the last ones,
      or with `keep_start` the first ones; -1 keeps as many as fit.
    - `scored_tokens`: with `echo` and `logprobs` the prompt may have at most so many tokens. No limit when 0.
    """

    model: str
    prompt: Union[Chat, Text, Tokens, Infill]
    sampling: Sampling = Sampling()
    defaults: Sampling = Sampling()
    truncate: bool = True
    context_limit: Optional[int] = None
    format: Optional[Union[str, dict[str, Any]]] = None
    logprobs: Optional[int] = None
    return_context: bool = False
    n: int = 1
    render_only: bool = False
    echo: bool = False
    adapter: str = ""
    request_id: str = ""
    caller: Caller = Caller()
    traceparent: str = ""
    constraint: Optional[Constraint] = None
    prompt_tokens: Optional[int] = None
    keep_start: bool = False
    so_far: Optional[SoFar] = None
    scored_tokens: int = 0


class Defaults(msgspec.Struct, frozen=True, omit_defaults=True):
    """Defaults that a model's declaration adds to each request.

    Several models may share an engine and differ in these fields alone, so they come with the request. `context_limit`
    is in tokens, `messages` go before those of a chat, `template` is a Go template, `adapter` a LoRA adapter's
    directory.
    """

    sampling: Sampling = Sampling()
    context_limit: Optional[int] = None
    system: str = ""
    messages: list[Message] = []
    template: str = ""
    adapter: str = ""


class EmbedRequest(msgspec.Struct, frozen=True):
    """Texts to embed, each on its own.

    `dimensions` numbers of each vector are kept, all when 0. `context_limit` (tokens) limits each text; with `truncate`
    a longer text is cut instead of refused.
    """

    model: str
    inputs: list[str]
    dimensions: int = 0
    truncate: bool = True
    context_limit: Optional[int] = None
    request_id: str = ""
    caller: Caller = Caller()
    traceparent: str = ""
