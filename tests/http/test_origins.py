"""CORS as Ollama has it, over HTTP: which pages may call, and which headers the browser gets."""

from __future__ import annotations

import httpx
import pytest

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


def test_a_foreign_page_is_refused_before_anything_is_done(client: httpx.Client):
    refused = client.post("/api/chat", json=CHAT, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "evil.example" in refused.json()["error"]
    assert "access-control-allow-origin" not in refused.headers


def test_an_allowed_page_reads_the_answer_and_its_errors(client: httpx.Client):
    for path, status in (("/api/chat", 200), ("/api/nothing", 404)):
        answer = client.post(path, json=CHAT, headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "Origin" in answer.headers["vary"]
        assert {"X-Request-Id", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(","))


@pytest.mark.parametrize(
    "path", ["/api/chat", "/v1/models", "/health", "/readyz", "/livez", "/metrics", "/api/streams/a"]
)
def test_a_preflight_is_answered(client: httpx.Client, path: str):
    headers = {
        "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "cache-control,last-event-id,traceparent,x-request-id",
    }  # fmt: skip
    answer = client.options(path, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    allowed = answer.headers["access-control-allow-headers"].split(",")
    assert {"Authorization", "Content-Type", "X-Api-Key", "Anthropic-Version", "X-Stainless-Lang"} <= set(allowed)
    assert {"cache-control", "last-event-id", "traceparent", "x-request-id"} <= set(allowed)
    assert answer.headers["access-control-max-age"] == "43200"
    assert answer.headers["vary"].count(",") == 2
    assert client.options(path, headers=headers | {"Origin": "https://evil.example"}).status_code == 403


def test_the_servers_own_page_needs_no_leave(client: httpx.Client):
    own = str(client.base_url).rstrip("/")
    answer = client.get("/api/version", headers={"Origin": own})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
