"""`/api/events`: what observers get of a server that works, fails and ends. Scripted engine."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.answers import chat
from tests.support.events import events
from tests.support.keys import write_keys
from tests.support.servers import Server
from tests.support.waiting import until


def ask(server: Server, script: str = "a b c") -> str:
    """Have a chat answered; the request's id."""
    answer = httpx.post(f"{server.url}/api/chat", json=chat(script, stream=False), timeout=120)
    return answer.headers["X-Request-Id"]


def test_it_begins_with_the_state_of_every_model(server: Server):
    with events(server.url) as observed:
        headers = observed.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert "no-store" in headers["Cache-Control"]
        assert headers["X-Accel-Buffering"] == "no"
        first = observed.next("snapshot")
        assert (observed.retry, first.data["resumable"]) == ("2000", True)
        assert first.data["host"] == {"state": "ready", "reason": ""}
        (model,) = first.data["models"]
        assert (model["name"], model["state"], model["reason"]) == ("demo:latest", "ready", "")
        assert (model["running"], model["retry_at"], len(model["replicas"])) == (0, None, 1)
        # One a second follows.
        assert observed.next("snapshot").data["time"] > first.data["time"]


def test_running_requests_and_their_tokens_are_shown_and_then_how_they_ended(server: Server):
    with (
        events(server.url) as observed,
        httpx.stream("POST", f"{server.url}/api/chat", json=chat("!rate:50 !repeat:400:tick", stream=True)) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        # Tokens of the test before may still count for a second.
        observed.next(
            "snapshot",
            lambda data: data["models"][0]["tokens_per_second"] > 0 and data["models"][0]["running"] == 1,
        )
        answer.close()
        request = answer.headers["X-Request-Id"]
        ended = observed.next("request", lambda data: data["request_id"] == request).data
        assert ended["ending"] == "client_gone"
        assert (ended["route"], ended["status"]) == ("/api/chat", 200)
        assert ended["output_tokens"] > 0
        observed.next("snapshot", lambda data: data["models"][0]["first_token_seconds"])


def test_no_prompt_and_no_answer_is_in_it(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_LOG_PROMPTS": "1"})
    request = ask(server, "confidential")
    with events(server.url, "?seconds=300") as observed:
        ended = observed.next("request", lambda data: data["request_id"] == request)
    assert "confidential" not in json.dumps(ended.data)
    line = next(json.loads(line) for line in server.output.splitlines() if request in line and line.startswith("{"))
    assert "confidential" in json.dumps(line.pop("prompt"))
    assert ended.data == line


def test_health_checks_scrapes_and_files_of_the_page_are_left_out(server: Server):
    with events(server.url) as observed:
        observed.next("snapshot")
        for path in ("/livez", "/readyz", "/metrics", "/ui", "/ui/app.js"):
            assert httpx.get(f"{server.url}{path}").status_code == 200
        httpx.get(f"{server.url}/api/version")
        assert observed.next("request").data["route"] == "/api/version"


def test_who_comes_late_gets_the_last_seconds_and_who_comes_back_what_was_missed(server: Server):
    first = ask(server)
    with events(server.url, "?seconds=300") as observed:
        seen = observed.next("request", lambda data: data["request_id"] == first)
    second = ask(server)
    with events(server.url, headers={"Last-Event-ID": seen.id}) as observed:
        missed = observed.next("request", lambda data: data["request_id"] in (first, second))
        assert missed.data["request_id"] == second
    # As after a restart of the engine host.
    with events(server.url, headers={"Last-Event-ID": "other-7"}) as observed:
        assert observed.next("request", lambda data: data["request_id"] == first)


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf", ""])
def test_wrong_seconds_are_refused(client: httpx.Client, seconds: str):
    answer = client.get("/api/events", params={"seconds": seconds})
    assert (answer.status_code, answer.json()) == (400, {"error": "seconds must be a number that is not negative"})


def test_a_head_is_answered_and_ends(client: httpx.Client):
    answer = client.head("/api/events")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")


def test_a_killed_engine_is_shown_with_the_reason_and_comes_back(start_server: Callable[..., Server]):
    server = start_server()
    with events(server.url) as observed:
        observed.state("ready")
        os.kill(server.engine_workers()[0], signal.SIGKILL)
        restarting = observed.state("restarting")
        assert restarting["reason"].startswith("the engine worker was killed by SIGKILL")
        assert restarting["retry_at"] is not None
        assert observed.state("ready")["restarts"] == 1


def test_a_model_that_can_not_be_loaded_is_shown_until_it_is_asked_for_again(
    start_server: Callable[..., Server], tmp_path: Path
):
    models = tmp_path / "models.toml"
    models.write_text(
        '[models.broken]\nsource = "models/demo"\nengine_args = { fail = "no such file" }\n'
        '[models.demo]\nsource = "models/demo"\npinned = true\n'
    )
    server = start_server({"VLLM_WSGI_MODELS": str(models)})
    with events(server.url) as observed:
        httpx.post(f"{server.url}/api/generate", json={"model": "broken"}, timeout=120)
        failed = observed.next("snapshot", lambda data: any(each["state"] == "failed" for each in data["models"])).data[
            "models"
        ]
        (broken,) = [each for each in failed if each["name"] == "broken:latest"]
        assert broken["reason"] == "the model can't be loaded: RuntimeError: no such file"
        assert broken["retry_at"] is None


def test_a_killed_engine_host_is_shown_as_gone_and_comes_back(start_server: Callable[..., Server]):
    server = start_server()
    with events(server.url) as observed:
        before = observed.next("snapshot")
        os.kill(server.engine_hosts()[0], signal.SIGKILL)
        gone = observed.next("snapshot", lambda data: data["host"]["state"] == "gone")
        assert (gone.id, gone.data["host"]["reason"]) == ("", "it closed the connection")
        back = observed.next("snapshot", lambda data: data["host"]["state"] == "ready")
        # The marks of another host.
        assert back.id.partition("-")[0] != before.id.partition("-")[0]


def test_a_draining_host_says_so(start_server: Callable[..., Server]):
    server = start_server()
    with (
        events(server.url) as observed,
        httpx.stream("POST", f"{server.url}/api/chat", json=chat("a !sleep:60 b", stream=True), timeout=120) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        os.kill(server.engine_hosts()[0], signal.SIGTERM)
        draining = observed.next("snapshot", lambda data: data["host"]["state"] == "draining")
        assert draining.data["host"]["reason"] == "it was asked to end"


def test_a_web_worker_that_ends_closes_the_stream_at_once(start_server: Callable[..., Server]):
    server = start_server()
    with events(server.url) as observed:
        observed.next("snapshot")
        (worker,) = server.web_workers()
        os.kill(server.master, signal.SIGHUP)
        # Ends without an error, long before the drain's time is over.
        assert [event for event in observed if event.name not in ("snapshot", "request")] == []
    until(lambda: worker not in server.web_workers(), 120, "the old web worker has ended")
    with events(server.url) as observed:
        observed.next("snapshot")


def test_observers_that_leave_hold_nothing(server: Server):
    (worker,) = map(psutil.Process, server.web_workers())
    with events(server.url) as observed:
        observed.next("snapshot")
        before = len(worker.net_connections("tcp"))
        for _ in range(5):
            with events(server.url) as other:
                other.next("snapshot")
                assert len(worker.net_connections("tcp")) > before
        until(lambda: len(worker.net_connections("tcp")) <= before, 120, "the others' connections are closed")
        assert observed.next("snapshot").data["host"]["state"] == "ready"


def test_an_observer_that_reads_nothing_holds_up_nobody(server: Server):
    with server.connect() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stuck.sendall(b"GET /api/events?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with events(server.url) as observed:
            for _ in range(3):
                ask(server)
                ended = observed.next("request", lambda data: data["route"] == "/api/chat").data
                assert (ended["status"], ended["ending"]) == (200, "done")


def test_a_key_needs_the_scope_observe(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server({"VLLM_WSGI_KEYS": str(write_keys(tmp_path))}, "observe")
    assert httpx.get(f"{server.url}/api/events").status_code == 401
    refused = httpx.get(f"{server.url}/api/events", headers={"X-Api-Key": "inference"})
    assert (refused.status_code, "observe" in refused.json()["error"]) == (403, True)
    with events(server.url, headers=server.headers) as observed:
        observed.next("snapshot")
