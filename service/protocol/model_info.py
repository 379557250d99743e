"""Facts about models, loaded or not, and the parts of a new model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Any, Optional

import msgspec

from .request import Message


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its files describe it, without loading it.

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

    def listed(self) -> ModelInfo:
        """Return a copy without the texts, which no list shows: those of all models might exceed one message."""
        return msgspec.structs.replace(self, parameters={}, template="", license="", system="", messages=[])


def newest_first(infos: Iterable[ModelInfo]) -> list[ModelInfo]:
    """Return models in the order in which every dialect lists them."""
    return sorted(infos, key=lambda info: -info.modified_at)


class EngineState(str, Enum):
    """The state of an engine. The values cross the queue, and `/api/status` shows them.

    FAILED is shown to observers alone: an idle engine that did not load, and that only a new request starts again.
    """

    IDLE = "idle"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    UNLOADING = "unloading"
    FAILED = "failed"

    def __str__(self) -> str:
        return str(self.value)


# A model is in the first of these states that one of its engine workers is in.
PRECEDENCE = (
    EngineState.READY,
    EngineState.LOADING,
    EngineState.RESTARTING,
    EngineState.UNLOADING,
    EngineState.FAILED,
    EngineState.IDLE,
)


def leading_state(states: Iterable[EngineState]) -> EngineState:
    """Return the state of a model whose engine workers are in these states."""
    return min(states, key=PRECEDENCE.index)


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the cluster that is alive. `free_gpus` are those that no engine worker holds.

    A node that is `draining` is about to be taken away, and gets no further engine workers.
    """

    id: str
    address: str
    name: str = ""
    gpus: float = 0.0
    free_gpus: float = 0.0
    cpus: float = 0.0
    draining: bool = False


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One of the engine workers that serve a model. `id` counts from 0 and stays when the worker is replaced.

    `node` is the address of the cluster's node; empty on the engine host's own machine.
    """

    id: int = 0
    state: EngineState
    running: int = 0
    waiting: int = 0
    restarts: int = 0
    node: str = ""


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that engine workers serve or are about to serve; numbers are those of all its replicas together.

    `size` is its memory in bytes. `expires_at` is in seconds since the epoch, and infinite for a model that stays.
    """

    info: ModelInfo
    state: EngineState
    running: int = 0
    waiting: int = 0
    size: int = 0
    context_length: int = 0
    restarts: int = 0
    device: str = ""
    expires_at: float = math.inf
    replicas: list[Replica] = []


class LeftOutModel(msgspec.Struct, frozen=True):
    """A model that is in the store and not served, and why. It can be deleted, or made anew."""

    name: str
    reason: str


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of a new model: the model `base` or `files`, and the fields that it changes.

    A field that is None or empty stays as it is in `base`. `files` and `adapters` map paths to the digests of uploaded
    blobs; `options` and `template` are Ollama's.
    """

    base: str = ""
    files: dict[str, str] = {}
    adapters: dict[str, str] = {}
    template: str = ""
    system: Optional[str] = None
    license: list[str] = []
    options: dict[str, Any] = {}
    messages: list[Message] = []


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of a model's files."""

    name: str
    type: str
    shape: list[int]
