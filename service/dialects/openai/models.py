"""Describe models as OpenAI does. It never knows where a model comes from."""

from __future__ import annotations

from typing import Any

from ...protocol.model_info import ModelInfo, newest_first
from ...syntax.names import ModelName
from ..turns import in_turns


def model(info: ModelInfo, name: str = "") -> dict[str, Any]:
    """Return an entry of `/v1/models`, or of `/v1/models/<name>` under the `name` that the client sent.

    vLLM's server adds the context length in tokens, and clients of it read it there.
    """
    owner = ModelName.parse(info.name).namespace
    entry = {"id": name or info.name, "object": "model", "created": int(info.modified_at), "owned_by": owner}
    return entry | ({"max_model_len": info.context_length} if info.context_length else {})


def models(infos: list[ModelInfo]) -> dict[str, Any]:
    """Return the answer of `/v1/models`, the newest model first, as in `/api/tags`."""
    return {"object": "list", "data": [model(info) for info in in_turns(newest_first(infos))]}
