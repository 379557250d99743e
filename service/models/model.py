"""A model that can be served."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import Any
import json
from ..syntax.names import ModelName
from ..protocol.request import Defaults, Message, Sampling


@dataclass(frozen=True)
class Model:
    """A model that can be served: `source` is a local directory or a Hugging Face repository.

    `options` are Ollama's, which `sampling` and `context_limit` (tokens) say in ours. `template` is the path of a Jinja
    chat template, empty: the model's own. `keep_alive` is in seconds, None: the server's. `memory` is in bytes, 0: what
    weights and KV cache take. A pinned model is loaded at the start and goes only when a client says so.

    The rest is of models that clients have made: `go_template` in place of a chat template, `adapter` the directory of
    a LoRA adapter, `parent` the name that it was made from, `made_at` in seconds since the epoch, 0 for a declared one.
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
    messages: tuple[Message, ...] = ()
    go_template: str = ""
    adapter: str = ""
    license: tuple[str, ...] = ()
    parent: str = ""
    made_at: float = 0.0

    @property
    def engine(self) -> tuple[str, ...]:
        """What tells its engine from others': models that have this in common share one."""
        arguments = json.dumps(self.engine_args, sort_keys=True)
        return self.source, arguments, self.tool_parser, self.reasoning_parser, self.template

    @property
    def defaults(self) -> Defaults:
        return Defaults(
            self.sampling, self.context_limit, self.system, list(self.messages), self.go_template, self.adapter
        )
