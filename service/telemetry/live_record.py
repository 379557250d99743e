"""The records of `/api/events`, as docs/reference/events.md describes them.

In: an event of the engine host. Out: its name and its record, for JSON.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

from ..protocol.live import EngineStatus, LiveEvent, LiveSnapshot, ModelStatus
from ..protocol.model_info import PRECEDENCE, EngineState
from .request_log import request_record


def live_record(event: LiveEvent, version: str, resumable: bool) -> tuple[str, dict[str, Any]]:
    """Return the name and the record of an event; `version` is this web worker's.

    `resumable`: streams can outlive their connection.
    """
    if event.request is not None:
        return "request", request_record(event.request)
    assert event.snapshot is not None
    return "snapshot", _snapshot(event.snapshot, version, resumable)


def _snapshot(snapshot: LiveSnapshot, version: str, resumable: bool) -> dict[str, Any]:
    return {
        "time": round(snapshot.time, 3),
        "version": version,
        "resumable": resumable,
        "host": {"state": snapshot.host.value, "reason": snapshot.reason},
        "models": [_model(model) for model in snapshot.models],
    }


def _model(model: ModelStatus) -> dict[str, Any]:
    leading = min(model.replicas, key=lambda each: PRECEDENCE.index(each.state))
    is_loaded = leading.state is EngineState.READY
    return {
        "name": model.name,
        **_state(leading),
        "running": sum(each.running for each in model.replicas),
        "waiting": sum(each.waiting for each in model.replicas),
        "tokens_per_second": round(sum(each.tokens_per_second for each in model.replicas), 1),
        "first_token_seconds": _rounded(model.first_token_seconds),
        "queue_seconds": _rounded(model.queue_seconds),
        "memory_bytes": sum(each.memory_bytes for each in model.replicas),
        "restarts": sum(each.restarts for each in model.replicas),
        "expires_at": _time(model.expires_at) if is_loaded and math.isfinite(model.expires_at) else None,
        "replicas": [_replica(each) for each in model.replicas],
    }


def _replica(engine: EngineStatus) -> dict[str, Any]:
    """Return the entry of an engine worker. Only one on a cluster has a `node`."""
    return {
        "id": engine.id,
        **_state(engine),
        "running": engine.running,
        "waiting": engine.waiting,
        "tokens_per_second": engine.tokens_per_second,
        "memory_bytes": engine.memory_bytes,
        "restarts": engine.restarts,
        **({"node": engine.node} if engine.node else {}),
    }


def _state(engine: EngineStatus) -> dict[str, Any]:
    return {
        "state": engine.state.value,
        "reason": engine.reason,
        "since": round(engine.since, 3),
        "retry_at": None if engine.retry_at is None else round(engine.retry_at, 1),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
