"""Describe models as Anthropic does. It never knows where a model comes from."""

from __future__ import annotations

from datetime import datetime, timezone

from ...protocol.model_info import ModelInfo, newest_first
from ..answer import Record
from ..turns import in_turns


def model(info: ModelInfo, name: str = "") -> Record:
    """Return an entry of the list of models, or the one model under the `name` that the client sent."""
    created = datetime.fromtimestamp(int(info.modified_at), timezone.utc)
    shown = name or info.name
    return {"type": "model", "id": shown, "display_name": shown, "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}"}


def models(infos: list[ModelInfo]) -> Record:
    """Return the list of models, the newest first. It has one page, whatever `limit` asks for."""
    entries = [model(info) for info in in_turns(newest_first(infos))]
    ids = [entry["id"] for entry in entries]
    return {
        "data": entries,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
