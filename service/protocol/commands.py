"""The commands that a web worker sends, and the events that answer each.

    to the engine host (control socket)
        Locate ─▶ Located                   Create, Pull ─▶ Progress … Done
        Unload ─▶ Unloaded                  Copy, Delete ─▶ Done
        ListModels ─▶ Models                FindBlob, PutBlob ─▶ Blob        DropBlob ─▶ Done
        ListLoaded ─▶ Loaded                StoreResponse, DropResponse ─▶ Done
        ShowModel ─▶ Models or Shown        FetchResponse ─▶ StoredResponse
        Check ─▶ Checked                    Measure ─▶ Measured              Count ─▶ (nothing)
        Observe ─▶ Observed                 Restart ─▶ Progress … Done
    to an engine worker (data socket)
        Submit ─▶ Delta … Finished for each answer, or Rendered
        Embed ─▶ Vectors …                  Measure ─▶ Measured
        SubmitKept ─▶ Head, Delta … Finished for each answer        Attach ─▶ the same
        Detach, EndStream ─▶ Done           ListStreams ─▶ KeptStreams
    to either
        Cancel ─▶ (nothing more comes for that id)

Each command has an `id` that is unique in its connection; the events that answer it bear the same id. Failed can take
the place of any event, and nothing follows it.
"""

from __future__ import annotations

from typing import Optional, Union

import msgspec

from .kept import Attach, Detach, EndStream, ListStreams, SubmitKept
from .model_info import Recipe
from .request import Defaults, EmbedRequest, Request, Struct


class RequestOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request in numbers and how it ended, for the metrics. Durations are in nanoseconds, 0 when there was none.

    `ending` is done, client_gone, refused, drained or error, and `error` the class of the error. `duration` is that of
    the whole request, `load` how long it waited for its model, and `queue` for its turn in it. `first` is the time to
    the first token, `speaking` the time from the first token to the last, and `pause` the longest between two writes of
    tokens. `time` is the request's end in seconds since the epoch. `client` is an address, and `key` the name of a key.
    `replica` is the number of the replica that had the request last, and `moves` counts its moves to another one by
    their causes: died, drained or unreached.
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
    time: float = 0.0
    request_id: str = ""
    client: str = ""
    key: str = ""
    method: str = ""
    status: int = 0
    duration: int = 0
    load: int = 0
    replica: int = 0
    moves: dict[str, int] = {}


class Locate(Struct):
    """Ask where the model is served; the host loads it if needed.

    `keep_alive` is in seconds: infinity means never unloaded, None leaves it as it is. The host keeps the model loaded
    for the `submits` Submits or Embeds that follow. `caller` is the name of the key. `lost` are data sockets whose
    engines this web worker has lost, which the host may not have noticed yet. Requests of one conversation
    have the same `beginning`.
    """

    id: int
    model: str
    keep_alive: Optional[float] = None
    submits: int = 1
    caller: str = ""
    lost: list[str] = []
    beginning: str = ""


class Unload(Struct):
    """Unload the model, once its running requests have ended."""

    id: int
    model: str


class Restart(Struct):
    """Replace the engine workers of a model, one after the other; those of every loaded model where the name is empty.

    The requests of each worker have `seconds` to end; with None, as long as when the host is asked to end. A model that
    can't serve meanwhile is restarted only if it `may_pause`.
    """

    id: int
    model: str = ""
    seconds: Optional[float] = None
    may_pause: bool = False


class ListModels(Struct):
    """List every model, loaded or not."""

    id: int


class ListLoaded(Struct):
    """List the models that are loaded or being loaded."""

    id: int


class ShowModel(Struct):
    """Describe one model: Models with one entry, or Shown when `verbose`."""

    id: int
    model: str
    verbose: bool = False


class Pull(Struct):
    """Download the model's files from the hub."""

    id: int
    model: str


class Create(Struct):
    """Make or replace a model."""

    id: int
    model: str
    recipe: Recipe


class Copy(Struct):
    """Give a model a second name."""

    id: int
    source: str
    destination: str


class Delete(Struct):
    """Delete a model."""

    id: int
    model: str


class FindBlob(Struct):
    """Ask whether a blob is there."""

    id: int
    digest: str


class PutBlob(Struct):
    """Upload the next bytes of a blob; `last` ends it. All parts of one upload have the same `upload`."""

    id: int
    upload: str
    digest: str
    data: bytes
    last: bool


class DropBlob(Struct):
    """Drop an upload that will not be completed."""

    id: int
    upload: str


class StoreResponse(Struct):
    """Store a response for its `owner`, the name of a Caller. `data` is JSON."""

    id: int
    response: str
    owner: str
    data: bytes


class FetchResponse(Struct):
    """Read a stored response."""

    id: int
    response: str
    owner: str


class DropResponse(Struct):
    """Delete a stored response."""

    id: int
    response: str
    owner: str


class Submit(Struct):
    """Generate. `defaults` come from the Located of the model."""

    id: int
    request: Request
    defaults: Defaults = Defaults()


class Embed(Struct):
    """Embed texts. Several Vectors may come, each with the next inputs."""

    id: int
    request: EmbedRequest


class Cancel(Struct):
    """Cancel the command with this id."""

    id: int


class Check(Struct):
    """Ask whether the engine host can serve requests now."""

    id: int


class Measure(Struct):
    """Ask for the metrics of the engine host or of an engine worker."""

    id: int


class Count(Struct):
    """Report requests that have ended in this web worker."""

    id: int
    ended: list[RequestOutcome]


class Observe(Struct):
    """Ask for the events of the server after the one with the mark `after`; answered as soon as there is one.

    Without a mark the answer comes at once, with the events of the last `seconds` and the newest snapshot.
    """

    id: int
    after: str = ""
    seconds: float = 0.0


Command = Union[
    Locate,
    Unload,
    Restart,
    ListModels,
    ListLoaded,
    ShowModel,
    Pull,
    Create,
    Copy,
    Delete,
    FindBlob,
    PutBlob,
    DropBlob,
    StoreResponse,
    FetchResponse,
    DropResponse,
    Submit,
    SubmitKept,
    Attach,
    Detach,
    EndStream,
    ListStreams,
    Embed,
    Cancel,
    Check,
    Measure,
    Count,
    Observe,
]
