"""The events that an engine process sends to a web worker, in lists.

    connect ─▶ [Hello]
    Submit  ─▶ [Delta, Delta, …] [Delta, …] … [Delta, Finished]      one list holds what one decode step produced
                                                                     for all requests of the web worker

Each event bears the `id` of the command that it answers; commands.py shows which events answer which command. PROTOCOL
is raised when a message changes its name or its meaning, since web tier and engine restart at different times.
"""

from __future__ import annotations

from typing import Any, Optional, Union

import msgspec

from ..errors import ServiceError, revive
from .kept import KeptState
from .live import LiveEvent
from .model_info import ClusterNode, LeftOutModel, LoadedModel, ModelInfo, Tensor
from .request import Defaults, Struct

PROTOCOL = 3


class Hello(Struct):
    """The first event on every connection. Its `id` is 0, which no command has.

    `pulses`: an Alive follows every two seconds, so that silence means that the sender hangs or is lost.
    """

    id: int = 0
    protocol: int = PROTOCOL
    pulses: bool = False


class Alive(Struct):
    """Sent every two seconds on a connection whose Hello says so."""

    id: int = 0


class Located(Struct):
    """The model is loaded and served by the replica with this number at `socket`: a path, or tls://host:port.

    `load_ns` is how long the request waited for the model, in nanoseconds. `capabilities` have Ollama's names; they are
    empty when they are not known. `defaults` go into the Submit. For `holds` seconds the model stays there, so that
    further requests need not ask.
    """

    id: int
    socket: str
    load_ns: int
    capabilities: list[str] = []
    defaults: Defaults = Defaults()
    replica: int = 0
    holds: float = 0.0


class Unloaded(Struct):
    """The model is not loaded any more."""

    id: int


class Models(Struct):
    """Models, as their files describe them."""

    id: int
    models: list[ModelInfo]


class Loaded(Struct):
    """The models that are loaded or being loaded, and those that are in the store and not served.

    `nodes` are those of the cluster; there are none without one.
    """

    id: int
    models: list[LoadedModel]
    left_out: list[LeftOutModel] = []
    nodes: list[ClusterNode] = []


class Shown(Struct):
    """A model with its tensors, and with the tokens of its vocabulary in the order of their ids."""

    id: int
    model: ModelInfo
    tensors: list[Tensor]
    tokens: list[str]


class Progress(Struct):
    """The progress of a pull or a creation. `status` is Ollama's text, `total` and `completed` are in bytes."""

    id: int
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Done(Struct):
    """The command is carried out."""

    id: int


class Blob(Struct):
    """The answer to FindBlob and PutBlob. `present`: the whole blob is there."""

    id: int
    present: bool


class StoredResponse(Struct):
    """A stored response: the `data` of its StoreResponse."""

    id: int
    data: bytes


class TokenLogprob(msgspec.Struct, omit_defaults=True, gc=False):
    """A token and its log probability, None for the first of a prompt. `bytes` are its text in UTF-8.

    There may be hundreds of thousands at once. Python's garbage collector looks at lists again and again, which takes
    several times as long as everything else, but not at tuples of numbers.
    """

    token: str
    logprob: Optional[float]
    bytes: tuple[int, ...] = ()
    top_logprobs: tuple[TokenLogprob, ...] = ()


class Delta(Struct):
    """The part that one or more decode steps added to one answer.

    `seq` counts the answer's tokens before this delta, so that a resumed stream can find its place. `token_ids` are the
    tokens that the delta covers, in order. `prompt_tokens` is set in the first delta only.
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
    """The end of an answer without an error. Durations are in nanoseconds, from vLLM's own request metrics.

    `stop` is the stop string that ended the answer, or empty. `output_tokens` include the `thinking_tokens`. `ended` is
    when a kept answer ended, in nanoseconds since the epoch; 0 for one that is not kept.
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
    ended: int = 0


class Head(Struct):
    """The first event of a kept stream: its number of `answers`, its KeptState's `state`, and fields of its Keep."""

    id: int
    recipe: bytes
    answers: int
    began: int
    load_ns: int
    background: bool
    state: str


class KeptStreams(Struct):
    """The streams of one owner that this engine worker keeps."""

    id: int
    streams: list[KeptState]


class Rendered(Struct):
    """The answer to a `render_only` request: the prompt with its special tokens, and its images and tokens counted."""

    id: int
    text: str
    images: int = 0
    tokens: int = 0


class Vectors(Struct):
    """The vectors of the next inputs, in their order; the answer ends with the vector of the last input.

    Each vector has the Euclidean length 1 and is encoded as little-endian float32. `prompt_tokens` counts the tokens of
    these inputs.
    """

    id: int
    vectors: list[bytes]
    prompt_tokens: int


class Checked(Struct):
    """The answer to Check. `trouble` is the reason why requests can't be served now, and empty when they can."""

    id: int
    trouble: str


class Measured(Struct):
    """`text` is in Prometheus' text format. The engines report their own metrics at their data `sockets`."""

    id: int
    text: str
    sockets: list[str] = []


class Observed(Struct):
    """One event or more, the oldest first. The mark of the last one goes into the next Observe."""

    id: int
    events: list[LiveEvent]


class Failed(Struct):
    """The end of a command that failed, with the error as `errors.revive` takes it."""

    id: int
    kind: str
    message: str
    retry_after: Optional[int] = None
    details: dict[str, Any] = {}

    @classmethod
    def of(cls, id: int, error: ServiceError) -> Failed:
        """Return the event that carries this error."""
        return cls(id, error.kind, error.message, error.retry_after, error.details)

    def error(self) -> ServiceError:
        """Return the error that it carries."""
        return revive(self.kind, self.message, self.retry_after, self.details)


Event = Union[
    Hello,
    Alive,
    Located,
    Unloaded,
    Models,
    Loaded,
    Shown,
    Progress,
    Done,
    Blob,
    StoredResponse,
    Delta,
    Finished,
    Head,
    KeptStreams,
    Rendered,
    Vectors,
    Checked,
    Measured,
    Observed,
    Failed,
]
