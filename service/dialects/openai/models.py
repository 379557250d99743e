"""Models in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from ...protocol.model_info import ModelInfo
from ...syntax.names import ModelName


def model(info: ModelInfo, name: str = "") -> dict[str, Any]:
    """An entry of `/v1/models`, or the one that was asked for by `name`."""
    owner = ModelName.parse(info.name).namespace
    return {"id": name or info.name, "object": "model", "created": int(info.modified_at), "owned_by": owner}


def models(infos: list[ModelInfo]) -> dict[str, Any]:
    """In the order of `/api/tags`: the newest first."""
    newest_first = sorted(infos, key=lambda info: -info.modified_at)
    return {"object": "list", "data": [model(info) for info in newest_first]}
