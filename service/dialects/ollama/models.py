"""Describe models as Ollama does: the entries of `/api/tags` and `/api/ps`, and the answer of `/api/show`.

The tests in `tests/compat/` show the fields that each client reads. It never knows where a model comes from.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import msgspec

from ...protocol.events import Shown
from ...protocol.model_info import LoadedModel, ModelInfo, Replica, newest_first
from ...protocol.request import Message
from ..turns import in_turns

# Ollama shows this time for a model that never expires: the end of Go's time scale, about 292 years ahead.
_FOREVER = datetime(2318, 11, 22, tzinfo=timezone.utc)


def tags(infos: list[ModelInfo]) -> dict[str, Any]:
    """Return the answer of `/api/tags`, the newest model first."""
    return {"models": [tag(info) for info in in_turns(newest_first(infos))]}


def tag(info: ModelInfo) -> dict[str, Any]:
    """Return an entry of `/api/tags`."""
    return {
        "name": info.name,
        "model": info.name,
        "modified_at": _time(info.modified_at),
        "size": info.size,
        "digest": info.digest,
        "details": details(info),
        "capabilities": info.capabilities,
    }


def loaded(model: LoadedModel) -> dict[str, Any]:
    """Return an entry of `/api/ps`.

    Ollama has no `running` and `waiting`, which count the requests in the engine, and no `replicas`.
    `nodes` are the addresses of the cluster's nodes on which the model runs; the field is absent without a cluster.
    """
    info = model.info
    nodes = [each.node for each in model.replicas if each.node]
    entry = {
        "name": info.name,
        "model": info.name,
        "size": model.size,
        "digest": info.digest,
        "details": details(info),
        "expires_at": _expiry(model.expires_at),
        "size_vram": 0 if model.device == "cpu" else model.size,
        "context_length": model.context_length or info.context_length,
        "running": model.running,
        "waiting": model.waiting,
        "replicas": len(model.replicas),
    }
    return entry | ({"nodes": nodes} if nodes else {})


def replica(engine: Replica) -> dict[str, Any]:
    """Return the entry of an engine worker in `/api/status`. Only one on a cluster has a `node`."""
    entry: dict[str, Any] = msgspec.to_builtins(engine)
    if not engine.node:
        del entry["node"]
    return entry


def show(info: ModelInfo) -> dict[str, Any]:
    """Return the answer of `/api/show`."""
    answer = {
        "license": info.license,
        "modelfile": _modelfile(info),
        "parameters": _parameters(info.parameters),
        "template": info.template,
        "system": info.system,
        "details": details(info),
        "messages": [_message(message) for message in info.messages],
        "model_info": _model_info(info),
        "capabilities": info.capabilities,
        "modified_at": _time(info.modified_at),
    }
    return {name: value for name, value in answer.items() if value != "" and not (name == "messages" and not value)}


def show_verbose(shown: Shown) -> dict[str, Any]:
    """Return the answer of `/api/show` with `verbose`: the vocabulary and the tensors too."""
    answer = show(shown.model)
    answer["model_info"]["tokenizer.ggml.tokens"] = shown.tokens
    tensors = [{"name": each.name, "type": each.type, "shape": each.shape} for each in shown.tensors]
    # The tensors come before the capabilities, as in Ollama's `api/types.go`, ShowResponse.
    last = {name: value for name, value in answer.items() if name in ("capabilities", "modified_at")}
    return {name: value for name, value in answer.items() if name not in last} | {"tensors": tensors} | last


def _message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.text}


def details(info: ModelInfo) -> dict[str, Any]:
    """Return the `details` that all entries of a model share."""
    return {
        "parent_model": info.parent,
        "format": "safetensors",
        "family": info.architecture,
        "families": [info.architecture] if info.architecture else None,
        "parameter_size": human_count(info.parameter_count),
        "quantization_level": info.quantization,
        "context_length": info.context_length,
        "embedding_length": info.embedding_length,
    }


def human_count(count: int) -> str:
    """Return a number of parameters as Ollama writes it (`format/format.go`, HumanNumber): 8B, 8.2B, 1.82M, 596K."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if count >= size:
            return f"{count / size:.{0 if count % size == 0 else digits}f}{unit}"
    return str(count)


def _model_info(info: ModelInfo) -> dict[str, Any]:
    """Return `model_info`. Copilot, Zed and others find the context length in it by the architecture's name."""
    arch = info.architecture
    if not arch:
        return {"general.basename": info.name.rpartition("/")[2].partition(":")[0]}
    return {
        "general.architecture": arch,
        "general.basename": info.name.rpartition("/")[2].partition(":")[0],
        "general.file_type": info.quantization,
        "general.parameter_count": info.parameter_count,
        f"{arch}.attention.head_count": info.head_count,
        f"{arch}.attention.head_count_kv": info.head_count_kv,
        f"{arch}.block_count": info.block_count,
        f"{arch}.context_length": info.context_length,
        f"{arch}.embedding_length": info.embedding_length,
        f"{arch}.vocab_size": info.vocabulary_size,
    }


def _parameters(parameters: dict[str, Any]) -> str:
    """Return a line for each option: its name, padded to 30 columns, and its value. Each stop string has a line."""
    lines = []
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else [value]:
            lines.append(f"{name:<30} {json.dumps(item, ensure_ascii=False)}")
    return "\n".join(lines)


def _modelfile(info: ModelInfo) -> str:
    parameters = [f"PARAMETER {' '.join(line.split(maxsplit=1))}" for line in _parameters(info.parameters).splitlines()]
    template = [f'TEMPLATE """{info.template}"""'] if info.template else []
    system = [f'SYSTEM """{info.system}"""'] if info.system else []
    messages = [f'MESSAGE {message.role} """{message.text}"""' for message in info.messages]
    return "\n".join([f"FROM {info.parent or info.name}", *template, *system, *parameters, *messages]) + "\n"


def _expiry(seconds: float) -> str:
    """Return a time in RFC 3339 in UTC."""
    time = _FOREVER if seconds >= _FOREVER.timestamp() else datetime.fromtimestamp(seconds, timezone.utc)
    return time.isoformat().replace("+00:00", "Z")


def _time(seconds: float) -> str:
    """Return a time in RFC 3339 with the local offset, as in Ollama's lists."""
    if not math.isfinite(seconds):
        seconds = 0.0
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat()
