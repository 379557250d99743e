"""The names of actors, by which an engine host that is started anew knows what each of them serves.

    qwen3:8b#1#0f3a5c…#9b2e…        the model's name, the replica's number, a digest of its engine, and a random part

Two actors of one replica have different names: Ray may know the first one of a lost node for a while.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import NamedTuple

from ...models.model import Model
from ...protocol.events import PROTOCOL


class ReplicaKey(NamedTuple):
    """The engine that an actor serves, by a digest of what it is made of, and the number of the replica."""

    engine: str
    replica: int


def replica_key(model: Model, replica: int) -> ReplicaKey:
    """Return the key of a replica.

    It stays the same when the number of replicas changes. Another protocol of the queue makes it another key.
    """
    parsers = model.tool_parser, model.reasoning_parser
    made_of = [PROTOCOL, model.source, model.engine_args, *parsers, model.template, model.gpus]
    return ReplicaKey(hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16], replica)


def new_name(model: Model, replica: int) -> str:
    """Return the name of a new actor."""
    key = replica_key(model, replica)
    return f"{model.name.short}#{replica}#{key.engine}#{uuid.uuid4().hex[:12]}"


def key_of(name: str) -> ReplicaKey | None:
    """Return what the actor with this name serves; None for a name that is not one of ours."""
    parts = name.rsplit("#", 3)
    if len(parts) != 4 or not parts[1].isdecimal():
        return None
    return ReplicaKey(parts[2], int(parts[1]))


def model_of(name: str) -> str:
    """Return the name of the model for which the actor was started."""
    return name.rsplit("#", 3)[0]
