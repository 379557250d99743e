"""The model: a source of weights under one name, with the arguments of its engine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..protocol.request import Defaults, Message, Sampling
from ..syntax.names import ModelName

# Ray counts parts of a GPU in ten-thousandths. Sums are rounded to them: five times 0.2 GPUs are one.
GPU_PARTS = 10_000


@dataclass(frozen=True)
class Model:
    """A model that can be served.

    - `source`: a local directory or a Hugging Face repository.
    - `options`: Ollama's; `sampling` and `context_limit` (tokens) hold the same in our terms.
    - `template`: the path of a Jinja chat template; empty for the model's own.
    - `pinned`: loaded at the start, and unloaded only when a client asks for it.
    - `keep_alive`: seconds; None for the server's.
    - `memory`: bytes of one replica; 0 for what the weights and the KV cache take.
    - `replicas`: how many engine workers serve it.
    - `devices`: a value of CUDA_VISIBLE_DEVICES for each replica; empty for that of the engine host.
    - `gpus`: how many GPUs of a cluster each replica takes, or which part of one.

    The others belong to models that clients have created:

    - `go_template`: a Go template in place of the chat template.
    - `adapter`: the directory of a LoRA adapter.
    - `parent`: the name of the model that it was created from.
    - `made_at`: seconds since the epoch; 0 for a declared model.
    """

    name: ModelName
    source: str
    engine_args: dict[str, Any] = field(default_factory=dict)
    tool_parser: str = ""
    reasoning_parser: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = Sampling()
    context_limit: int | None = None
    system: str = ""
    template: str = ""
    keep_alive: float | None = None
    pinned: bool = False
    memory: int = 0
    replicas: int = 1
    devices: tuple[str, ...] = ()
    gpus: float = 1.0
    messages: tuple[Message, ...] = ()
    go_template: str = ""
    adapter: str = ""
    license: tuple[str, ...] = ()
    parent: str = ""
    made_at: float = 0.0

    @cached_property
    def engine(self) -> tuple[str, ...]:
        """The identity of the model's engine: models with the same identity share one engine."""
        arguments = json.dumps(self.engine_args, sort_keys=True)
        parsers = self.tool_parser, self.reasoning_parser
        return self.source, arguments, *parsers, self.template, str(self.replicas), str(self.gpus), *self.devices

    @property
    def cache_bytes(self) -> int:
        """The size of the KV cache that the operator wants, in bytes; 0 where that is left to vLLM."""
        size = self.engine_args.get("kv_cache_memory_bytes")
        return size if isinstance(size, int) and size > 0 else 0

    @property
    def defaults(self) -> Defaults:
        """Return the defaults that the model adds to each request."""
        return Defaults(
            self.sampling, self.context_limit, self.system, list(self.messages), self.go_template, self.adapter
        )
