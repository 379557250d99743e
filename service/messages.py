"""Every message of the queue, and how it lies on the wire.

    web worker ──▶ engine host     Locate, Unload, ListModels, ListLoaded, ShowModel      control socket
                                   Pull, Create, Copy, Delete, FindBlob, PutBlob, DropBlob
                                   StoreResponse, FetchResponse, DropResponse
                                   Check, Measure, Count
    web worker ──▶ engine worker   Submit, Embed, Cancel, Measure                         data socket
    either     ──▶ web worker      [event, …]                                             both sockets
    engine worker ──▶ engine host  Ready, Broken, Pulse, Activity                              its lifeline

A frame is a 4-byte big-endian length and that many bytes of msgpack. Both sockets answer in the same way: a
Hello first, then lists of events, each event naming the request that it belongs to. One list carries
everything that one decode step produced for one web worker.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec

from .errors import ServiceError, revive

PROTOCOL = 1
MAX_FRAME_BYTES = 256 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class Struct(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Arrays instead of maps: field order is the protocol; new fields go last and have a default."""


# --- what a model is -------------------------------------------------------------------------------------


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model without loading it: read from its files, never constant.

    Sizes are in bytes, lengths in tokens, `modified_at` in seconds since the epoch.
    """

    name: str
    size: int = 0
    digest: str = ""
    modified_at: float = 0.0
    architecture: str = ""
    parameter_count: int = 0
    quantization: str = ""
    context_length: int = 0
    embedding_length: int = 0
    block_count: int = 0
    head_count: int = 0
    head_count_kv: int = 0
    vocabulary_size: int = 0
    capabilities: list[str] = []
    parameters: dict[str, Any] = {}
    template: str = ""
    license: str = ""
    system: str = ""
    messages: list[Message] = []
    parent: str = ""


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that an engine worker serves or is about to.

    `size` is its memory in bytes, `expires_at` in seconds since the epoch; infinity: it stays.
    """

    info: ModelInfo
    state: str
    running: int = 0
    waiting: int = 0
    size: int = 0
    context_length: int = 0
    restarts: int = 0
    device: str = ""
    expires_at: float = math.inf


# --- one request -----------------------------------------------------------------------------------------


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


class Request(msgspec.Struct, frozen=True):
    """One generation, whichever dialect asked for it.

    `defaults` are the dialect's, beneath the model's own. `context_limit` (tokens) caps prompt and answer together.
    `truncate`: a prompt that is too long loses its oldest turns instead of being refused. `format` is "json" or a
    JSON schema that the answer must fit. `logprobs`: the alternatives to tell beside each token; None tells nothing.
    `n` answers to the one prompt are generated, told apart by the `index` of their events. `render_only`: the answer is
    the prompt as the model would get it. `echo`: each answer begins with a delta of the prompt itself, which covers no
    token of the answer; with `logprobs` the prompt's are in it. `adapter` is the directory of a LoRA adapter, which
    only the model's own defaults name. `request_id` is for logs, `traceparent` (W3C Trace Context) for traces.
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


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one request was and how it ended, for the metrics. Durations in nanoseconds; 0: there was none.

    `ending` is done, client_gone, refused, drained or error; `error` the kind of error that it was. `first` is the time
    to the first token, `pause` the longest wait between two writes of tokens, `speaking` from the first to the last.
    """

    route: str
    ending: str
    error: str = ""
    model: str = ""
    first: int = 0
    pause: int = 0
    speaking: int = 0
    queue: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


# --- web worker → engine ---------------------------------------------------------------------------------


class Locate(Struct):
    """Where is the model served? Loads it if need be; the answer is Located or Failed.

    `keep_alive` is in seconds (infinity: for ever, None: as it is). `submits`: how many Submits or Embeds follow, for
    which the model is kept. `caller` is the name of the key.
    """

    id: int
    model: str
    keep_alive: float | None = None
    submits: int = 1
    caller: str = ""


class Unload(Struct):
    id: int
    model: str


class ListModels(Struct):
    id: int


class ListLoaded(Struct):
    id: int


class ShowModel(Struct):
    """The answer is Models with that one; `verbose`: Shown."""

    id: int
    model: str
    verbose: bool = False


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a new model is made of: the model `base` or `files`, and what is set on top of it. None and empty: as it is.

    `files` and `adapters` map paths to the digests of uploaded blobs; `options` and `template` are Ollama's.
    """

    base: str = ""
    files: dict[str, str] = {}
    adapters: dict[str, str] = {}
    template: str = ""
    system: str | None = None
    license: list[str] = []
    options: dict[str, Any] = {}
    messages: list[Message] = []


class Pull(Struct):
    """Fetch the model's files from the hub. The answer is Progress, any number of times, and Done."""

    id: int
    model: str


class Create(Struct):
    """Make or replace a model. The answer is Progress, any number of times, and Done."""

    id: int
    model: str
    recipe: Recipe


class Copy(Struct):
    """The answer is Done."""

    id: int
    source: str
    destination: str


class Delete(Struct):
    """The answer is Done."""

    id: int
    model: str


class FindBlob(Struct):
    """The answer is Blob."""

    id: int
    digest: str


class PutBlob(Struct):
    """The next bytes of a blob, `last` or not; `upload` tells uploads apart. The answer is Blob."""

    id: int
    upload: str
    digest: str
    data: bytes
    last: bool


class DropBlob(Struct):
    """The upload has been given up. The answer is Done."""

    id: int
    upload: str


class StoreResponse(Struct):
    """Keep a response for its `owner`, who is a Caller by name. `data` is JSON. The answer is Done."""

    id: int
    response: str
    owner: str
    data: bytes


class FetchResponse(Struct):
    """The answer is StoredResponse."""

    id: int
    response: str
    owner: str


class DropResponse(Struct):
    """The answer is Done."""

    id: int
    response: str
    owner: str


class Submit(Struct):
    """`defaults` are those that the model was Located with."""

    id: int
    request: Request
    defaults: Defaults = Defaults()


class Embed(Struct):
    """The answer is Embedded, as often as it takes, or Failed."""

    id: int
    request: EmbedRequest


class Cancel(Struct):
    id: int


class Check(Struct):
    """Whether requests may come now. The answer is Checked."""

    id: int


class Measure(Struct):
    """The metrics of a host or an engine worker. The answer is Measured."""

    id: int


class Count(Struct):
    """Requests that have ended in this web worker. There is no answer."""

    id: int
    ended: list[Ended]


# --- engine → web worker ---------------------------------------------------------------------------------


class Hello(Struct):
    """The first event on every connection; `id` is 0, which no request has."""

    id: int = 0
    protocol: int = PROTOCOL


class Located(Struct):
    """`socket` is the path of the data socket; `load_ns` how long this request waited for the model.

    `capabilities` are the model's, in Ollama's words; empty where they are not known. `defaults` go into the Submit.
    """

    id: int
    socket: str
    load_ns: int
    capabilities: list[str] = []
    defaults: Defaults = Defaults()


class Unloaded(Struct):
    id: int


class Models(Struct):
    id: int
    models: list[ModelInfo]


class Loaded(Struct):
    id: int
    models: list[LoadedModel]


class Tensor(msgspec.Struct, frozen=True):
    name: str
    type: str
    shape: list[int]


class Shown(Struct):
    """A model with all that its files hold: its tensors, and the tokens of its vocabulary in the order of their ids."""

    id: int
    model: ModelInfo
    tensors: list[Tensor]
    tokens: list[str]


class Progress(Struct):
    """How far a pull or a creation has come, in Ollama's words. `total` and `completed` are in bytes."""

    id: int
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Done(Struct):
    id: int


class Blob(Struct):
    """`present`: the blob is there, whole."""

    id: int
    present: bool


class StoredResponse(Struct):
    """The `data` that it was stored with."""

    id: int
    data: bytes


class TokenLogprob(msgspec.Struct, omit_defaults=True):
    """A token and its log probability, None for a prompt's first; `bytes` are those of its text in UTF-8."""

    token: str
    logprob: float | None
    bytes: list[int] = []
    top_logprobs: list[TokenLogprob] = []


class Delta(Struct):
    """What one or more decode steps added to one answer.

    `seq` counts the tokens of the answer before this delta, so that a resumed stream knows what it has;
    `token_ids` are the tokens that it covers, in order. The first delta tells the `prompt_tokens`.
    """

    id: int
    seq: int
    text: str
    token_ids: list[int]
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []
    logprobs: list[TokenLogprob] = []
    index: int = 0
    prompt_tokens: int = 0


class Finished(Struct):
    """The end of an answer that went well. Durations in nanoseconds, from vLLM's own request metrics.

    `stop` is the stop string that ended it, empty where none did; `thinking_tokens` are among the `output_tokens`.
    """

    id: int
    reason: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    prompt_token_ids: list[int] = []
    index: int = 0
    stop: str = ""
    thinking_tokens: int = 0


class Rendered(Struct):
    """The answer to `render_only`: the prompt's text with its special tokens, how many images and tokens it has."""

    id: int
    text: str
    images: int = 0
    tokens: int = 0


class Embedded(Struct):
    """The vectors of the next inputs, in their order; the answer ends with that of the last input.

    A vector is of length 1 and lies here as little-endian float32. `prompt_tokens` counts these inputs' tokens.
    """

    id: int
    vectors: list[bytes]
    prompt_tokens: int


class Checked(Struct):
    """`trouble` says why no request should come now; empty where one may."""

    id: int
    trouble: str


class Measured(Struct):
    """`text` is in Prometheus' text format; the metrics of the engines are asked at their data `sockets`."""

    id: int
    text: str
    sockets: list[str] = []


class Failed(Struct):
    """The end of an answer that did not."""

    id: int
    kind: str
    message: str
    retry_after: int | None = None

    @classmethod
    def of(cls, id: int, error: ServiceError) -> Failed:
        return cls(id, error.kind, error.message, error.retry_after)

    def error(self) -> ServiceError:
        return revive(self.kind, self.message, self.retry_after)


# --- engine worker → engine host -------------------------------------------------------------------------


class Ready(Struct):
    """The model is loaded and its data socket listens. `cache_bytes` is the size of its KV cache."""

    context_length: int
    device: str
    cache_bytes: int


class Broken(Struct):
    """The model can't be loaded, and why."""

    message: str


class Pulse(Struct):
    """The engine itself answered: that many requests run in it, that many wait."""

    running: int
    waiting: int


class Activity(Struct):
    """The first request began or the last one ended: `begun` have so far, `running` do now. Sent at once."""

    begun: int
    running: int


Command = (
    Locate
    | Unload
    | ListModels
    | ListLoaded
    | ShowModel
    | Pull
    | Create
    | Copy
    | Delete
    | FindBlob
    | PutBlob
    | DropBlob
    | StoreResponse
    | FetchResponse
    | DropResponse
    | Submit
    | Embed
    | Cancel
    | Check
    | Measure
    | Count
)
Event = (
    Hello
    | Located
    | Unloaded
    | Models
    | Loaded
    | Shown
    | Progress
    | Done
    | Blob
    | StoredResponse
    | Delta
    | Finished
    | Rendered
    | Embedded
    | Checked
    | Measured
    | Failed
)
Report = Ready | Broken | Pulse | Activity

_encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_events = msgspec.msgpack.Decoder(list[Event]).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


def pack(message: Command | Report | list[Event]) -> bytes:
    """The frame of a message."""
    payload = _encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Unpacker:
    """Cuts a byte stream into the payloads of its frames; raises ValueError for one that is too long."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return payloads
