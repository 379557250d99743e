"""The events that an engine process sends to a web worker."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import ServiceError, revive
from .live import LiveEvent
from .model_info import LoadedModel, ModelInfo, Tensor
from .request import Defaults, Struct

PROTOCOL = 2


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


class Vectors(Struct):
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


class Observed(Struct):
    """The oldest first; there is at least one. The mark of the last one goes into the next Observe."""

    id: int
    events: list[LiveEvent]


class Failed(Struct):
    """The end of an answer that did not."""

    id: int
    kind: str
    message: str
    retry_after: int | None = None
    details: dict[str, Any] = {}

    @classmethod
    def of(cls, id: int, error: ServiceError) -> Failed:
        return cls(id, error.kind, error.message, error.retry_after, error.details)

    def error(self) -> ServiceError:
        return revive(self.kind, self.message, self.retry_after, self.details)


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
    | Vectors
    | Checked
    | Measured
    | Observed
    | Failed
)
