"""The commands that a web worker sends to an engine host or an engine worker."""

from __future__ import annotations

import msgspec

from .model_info import Recipe
from .request import Defaults, EmbedRequest, Request, Struct


class RequestOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
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


class Locate(Struct):
    """Where is the model served? Loads it if need be; the answer is Located or Failed.

    `keep_alive` is in seconds (infinity: for ever, None: as it is). `submits`: how many Submits or Embeds follow, for
    which the model is kept. `caller` is the name of the key. `lost`: data sockets whose engines the asker has
    lost, which the host may not have noticed yet; the asker waits for another engine.
    """

    id: int
    model: str
    keep_alive: float | None = None
    submits: int = 1
    caller: str = ""
    lost: list[str] = []


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
    ended: list[RequestOutcome]


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
