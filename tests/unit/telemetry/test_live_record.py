"""What `/api/events` shows: the records that docs/reference/events.md describes."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from service.protocol.commands import RequestOutcome
from service.protocol.live import EngineStatus, HostState, LiveEvent, LiveSnapshot, ModelStatus
from service.protocol.model_info import EngineState
from service.telemetry.live_record import live_record
from service.telemetry.request_log import line
from tests.support.servers import ROOT

PAGE = (ROOT / "docs/reference/events.md").read_text()


def shown(*replicas: EngineStatus, **fields: Any) -> dict[str, Any]:
    snapshot = LiveSnapshot(1.5, models=[ModelStatus(name="m:latest", replicas=list(replicas), **fields)])
    name, record = live_record(LiveEvent("run-1", snapshot), "1.2", resumable=True)
    assert name == "snapshot"
    return record


def model(*replicas: EngineStatus, **fields: Any) -> dict[str, Any]:
    (entry,) = shown(*replicas, **fields)["models"]
    return dict(entry)


def documented(heading: str) -> set[str]:
    """The fields in the tables below a heading."""
    section = PAGE.split(heading, 1)[1].split("\n## ", 1)[0]
    return {name for row in re.findall(r"^\| (`[^|]+) \|", section, re.M) for name in re.findall(r"`(\w+)`", row)}


def test_every_field_is_documented_and_no_other():
    record = shown(EngineStatus())
    entry = record["models"][0]
    assert documented("## `snapshot`") == record.keys() | entry.keys()
    assert entry["replicas"][0].keys() <= {"id", *entry.keys()}


def test_a_replica_on_a_cluster_has_a_node():
    first, second = model(EngineStatus(node="10.0.0.2"), EngineStatus(id=1))["replicas"]
    assert (first["node"], "node" in second) == ("10.0.0.2", False)


def test_a_model_with_one_engine_worker_is_as_that_one():
    status = EngineStatus(
        state=EngineState.READY, since=2.0, running=1, waiting=2, tokens_per_second=3.5, memory_bytes=9
    )
    entry = model(status, expires_at=0.0, first_token_seconds=0.123456)
    assert (entry["state"], entry["reason"], entry["since"], entry["retry_at"]) == ("ready", "", 2.0, None)
    assert (entry["running"], entry["waiting"], entry["tokens_per_second"], entry["memory_bytes"]) == (1, 2, 3.5, 9)
    assert (entry["first_token_seconds"], entry["queue_seconds"]) == (0.1235, None)
    assert datetime.fromisoformat(entry["expires_at"]).timestamp() == 0


def test_a_model_whose_engine_does_not_run_says_why_and_when_it_is_tried_again():
    entry = model(
        EngineStatus(state=EngineState.RESTARTING, reason="killed", retry_at=7.04, restarts=3), expires_at=5.0
    )
    assert (entry["state"], entry["reason"], entry["retry_at"], entry["restarts"]) == ("restarting", "killed", 7.0, 3)
    assert entry["expires_at"] is None


def test_a_model_that_is_never_unloaded_expires_never():
    assert model(EngineStatus(state=EngineState.READY))["expires_at"] is None


def test_a_model_with_several_engine_workers_is_ready_as_long_as_one_is():
    ready = EngineStatus(id=1, state=EngineState.READY, running=2, tokens_per_second=1.5)
    dead = EngineStatus(id=2, state=EngineState.RESTARTING, reason="killed", waiting=1, restarts=1)
    entry = model(dead, ready)
    assert (entry["state"], entry["reason"]) == ("ready", "")
    assert (entry["running"], entry["waiting"], entry["restarts"]) == (2, 1, 1)
    assert [(each["id"], each["state"], each["reason"]) for each in entry["replicas"]] == [
        (2, "restarting", "killed"), (1, "ready", ""),
    ]  # fmt: skip


def test_the_host_says_what_it_does_and_why():
    gone = LiveEvent(snapshot=LiveSnapshot(1.0, HostState.GONE, "it closed the connection"))
    _, record = live_record(gone, "1.2", False)
    assert record["host"] == {"state": "gone", "reason": "it closed the connection"}
    assert (record["models"], record["version"], record["resumable"]) == ([], "1.2", False)


def test_a_request_is_as_its_line_in_the_request_log():
    outcome = RequestOutcome(
        "/api/chat", "error", "EngineGone", "m", time=1764140000.25, request_id="r", client="::1", key="alice",
        method="POST", status=200, duration=1_250_000, first=999_999,
    )  # fmt: skip
    name, record = live_record(LiveEvent("run-1", request=outcome), "1.2", False)
    assert name == "request"
    assert json.loads(line(outcome)) == record
    assert (record["time"], record["duration_ms"]) == ("2025-11-26T06:53:20.250+00:00", 1.2)
