"""The routes over real HTTP, on a scripted engine."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.answers import parse
from tests.support.servers import Server
from tests.support.waiting import until

JSON_TYPE = "application/json; charset=utf-8"


@pytest.fixture
def model(client: httpx.Client) -> str:
    """The served model's name as lists show it."""
    return str(client.get("/api/tags").json()["models"][0]["name"])


def test_the_root_says_that_ollama_runs(client: httpx.Client):
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (200, "Ollama is running")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_head_answers_as_get_without_a_body(client: httpx.Client, path: str):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]


def test_version_names_a_release_of_ollama(client: httpx.Client):
    answer = client.get("/api/version")
    assert answer.headers["Content-Type"] == JSON_TYPE
    assert [part.isdigit() for part in answer.json()["version"].split(".")] == [True] * 3
    assert answer.content == json.dumps(answer.json(), separators=(",", ":")).encode()


def test_version_is_what_the_environment_says(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_OLLAMA_VERSION": "0.99.1"})
    assert httpx.get(f"{server.url}/api/version").json() == {"version": "0.99.1"}


def test_tags_lists_the_model_under_its_full_name(client: httpx.Client):
    (entry,) = client.get("/api/tags").json()["models"]
    assert entry["name"] == entry["model"] == "demo:latest"
    assert len(bytes.fromhex(entry["digest"])) == 32
    assert entry["size"] > 0
    assert entry["details"].keys() >= {"parent_model", "format", "family", "families", "parameter_size"}


def test_ps_tells_what_the_engine_said_of_itself(client: httpx.Client):
    (entry,) = client.get("/api/ps").json()["models"]
    assert (entry["name"], entry["context_length"], entry["size_vram"]) == ("demo:latest", 4096, 0)
    assert entry["expires_at"].endswith("Z")


def test_status_tells_what_each_model_does(client: httpx.Client):
    answer = client.get("/api/status").json()
    assert answer["cloud"] == {"disabled": True, "source": "config"}
    (entry,) = answer["vllm_wsgi"]["models"]
    assert (entry["name"], entry["state"], entry["restarts"]) == ("demo:latest", "ready", 0)


@pytest.mark.parametrize("field", ["model", "name"])
@pytest.mark.parametrize("spelling", ["demo", "demo:latest", "DEMO", " library/demo "])
def test_show_knows_every_spelling_of_a_name(client: httpx.Client, field: str, spelling: str):
    answer = client.post("/api/show", json={field: spelling})
    assert answer.status_code == 200
    assert answer.json().keys() >= {"modelfile", "details", "model_info", "capabilities", "modified_at"}
    architecture = answer.json()["model_info"]["general.architecture"]
    assert answer.json()["model_info"][f"{architecture}.context_length"] > 0


def test_show_prefers_model_to_name(client: httpx.Client):
    answer = client.post("/api/show", json={"model": "demo", "name": "other"})
    assert answer.status_code == 200


def test_a_generation_echoes_the_name_as_it_was_spelt(client: httpx.Client):
    answer = client.post("/api/generate", json={"model": "DEMO:Latest", "prompt": "a", "stream": False})
    assert (answer.status_code, answer.json()["model"]) == (200, "DEMO:Latest")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/nope", "/api/nope", "/api/", "/api/chat/more"])
def test_an_unknown_route_is_a_404_in_json(client: httpx.Client, method: str, path: str):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, JSON_TYPE)
    assert "404" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/chat", {"POST"}),
        ("PUT", "/api/generate", {"POST"}),
        ("OPTIONS", "/api/generate", {"POST"}),
        ("DELETE", "/api/show", {"POST"}),
        ("POST", "/api/tags", {"GET", "HEAD"}),
        ("PATCH", "/api/ps", {"GET"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("OPTIONS", "/readyz", {"GET", "HEAD"}),
        ("PUT", "/metrics", {"GET"}),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    client: httpx.Client, method: str, path: str, allowed: set[str]
):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (405, JSON_TYPE)
    assert allowed <= set(answer.headers["Allow"].split(", "))
    assert "405" in answer.json()["error"]


USER = {"role": "user", "content": "a"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}]}
GO = "json: cannot unmarshal"

# The texts are those of Ollama's `server/routes.go` and of Go's `encoding/json`.
REFUSALS: list[tuple[str, Any, int, str]] = [
    ("/api/chat", b"", 400, "missing request body"),
    ("/api/generate", b" \n", 400, "missing request body"),
    ("/api/show", b"", 400, "missing request body"),
    ("/api/chat", b"{}", 400, "model is required"),
    ("/api/chat", b"null", 400, "model is required"),
    ("/api/show", b"{}", 400, "model is required"),
    ("/api/generate", b"{}", 404, "model '' not found"),
    ("/api/generate", b"{", 400, "unexpected EOF"),
    ("/api/generate", b'{"model":"M",}', 400, "invalid character '}' looking for beginning of object key string"),
    ("/api/generate", {"model": 1}, 400, f"{GO} number into Go struct field GenerateRequest.model of type string"),
    ("/api/chat", b"[]", 400, f"{GO} array into Go value of type api.ChatRequest"),
    ("/api/chat", {"model": "demo", "messages": [PARTS]}, 400,
     f"{GO} array into Go struct field ChatRequest.messages.content of type string"),
    ("/api/chat", {"model": "a b"}, 400, "invalid model name"),
    ("/api/generate", {"model": "a b"}, 400, "invalid model name"),
    ("/api/show", {"model": "m:"}, 400, "invalid model name"),
    ("/api/chat", {"model": "other", "messages": [USER]}, 404, "model 'other' not found"),
    ("/api/chat", {"model": "other"}, 404, "model 'other' not found"),
    ("/api/chat", {"model": "other", "keep_alive": 0}, 404, "model 'other' not found"),
    ("/api/generate", {"model": "other", "prompt": "a"}, 404, "model 'other' not found"),
    ("/api/generate", {"model": "other", "prompt": "a", "stream": False}, 404, "model 'other' not found"),
    ("/api/show", {"model": "other"}, 404, "model 'other:latest' not found"),
    ("/api/show", {"name": "other:7b"}, 404, "model 'other:7b' not found"),
    ("/api/chat", {"model": "demo", "messages": [USER], "think": "extreme"}, 400,
     'invalid think value: "extreme" (must be "high", "medium", "low", "max", true, or false)'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "text"), REFUSALS)
def test_a_refusal_says_what_ollama_says(client: httpx.Client, path: str, body: Any, status: int, text: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert answer.headers["Content-Type"] == JSON_TYPE


# A wrong option or format is a 400, where Ollama says 500 in the same words.
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"raw": True, "system": "s"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"keep_alive": "5"}, 'time: missing unit in duration "5"'),
        ({"options": {"stop": "x"}}, 'option "stop" must be of type array'),
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"num_ctx": "big"}}, 'option "num_ctx" must be of type integer'),
        ({"format": "xml"}, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(client: httpx.Client, fields: dict[str, Any], text: str):
    answer = client.post("/api/generate", json={"model": "demo", "prompt": "a", **fields})
    assert (answer.status_code, answer.json()) == (400, {"error": text})


LOADS = [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})]


@pytest.mark.parametrize("stream", [None, True, False, "jsonl"])
@pytest.mark.parametrize(("path", "empty"), LOADS)
def test_a_load_is_one_object_with_or_without_streaming(client: httpx.Client, path: str, empty: Any, stream: Any):
    answer = client.post(path, json={"model": "demo", "stream": stream, **empty})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON_TYPE)
    assert answer.json().keys() - {"response", "message"} == {"model", "created_at", "done", "done_reason"}
    assert (answer.json()["done"], answer.json()["done_reason"]) == (True, "load")


EVENTS: list[dict[str, Any]] = [
    {"headers": {"Accept": "text/event-stream"}}, {"params": {"alt": "sse"}}, {"body": {"stream": "sse"}},
    {"body": {"stream_type": "text/event-stream"}},
]  # fmt: skip


@pytest.mark.parametrize("asked", EVENTS)
@pytest.mark.parametrize(("path", "empty"), [*LOADS, ("/api/generate", {"keep_alive": 0})])
def test_a_load_or_unload_asked_for_as_events_is_one_event(
    client: httpx.Client, model: str, path: str, empty: Any, asked: Any
):
    body = {"model": model, **empty, **asked.get("body", {})}
    answer = client.post(path, json=body, headers=asked.get("headers"), params=asked.get("params"))
    (record,) = parse(answer.content, answer.headers["Content-Type"])
    assert (answer.headers["Content-Type"], record["done"]) == ("text/event-stream", True)


@pytest.mark.parametrize("asked", EVENTS)
def test_a_prompt_that_is_only_rendered_is_one_event_too(client: httpx.Client, asked: Any):
    body = {"model": "demo", "prompt": "a", "_debug_render_only": True, **asked.get("body", {})}
    answer = client.post("/api/generate", json=body, headers=asked.get("headers"), params=asked.get("params"))
    (record,) = parse(answer.content, answer.headers["Content-Type"])
    assert "_debug_info" in record


@pytest.mark.parametrize("stream_type", ["text/event-stream", "application/x-ndjson", "anything"])
def test_no_stream_means_one_object_whatever_the_stream_type(client: httpx.Client, stream_type: str):
    body = {"model": "demo", "prompt": "a b", "stream": False, "stream_type": stream_type}
    answer = client.post("/api/generate", json=body)
    assert (answer.headers["Content-Type"], answer.json()["response"]) == (JSON_TYPE, "a b ")


@pytest.mark.parametrize("keep_alive", [0, "0s"])
def test_an_unloaded_model_leaves_ps_and_comes_back_when_asked(client: httpx.Client, model: str, keep_alive: Any):
    answer = client.post("/api/generate", json={"model": model, "keep_alive": keep_alive})
    assert (answer.headers["Content-Type"], answer.json()["done_reason"]) == (JSON_TYPE, "unload")
    assert client.get("/api/ps").json() == {"models": []}
    again = client.post("/api/chat", json={"model": model, "messages": [{"role": "user", "content": "b"}]})
    assert again.status_code == 200
    assert [entry["name"] for entry in client.get("/api/ps").json()["models"]] == [model]


def test_an_unloaded_model_can_still_be_shown_and_unloaded(client: httpx.Client, model: str):
    for _ in range(2):
        assert client.post("/api/chat", json={"model": model, "keep_alive": 0}).json()["done_reason"] == "unload"
    assert client.post("/api/show", json={"model": model}).status_code == 200
    assert client.post("/api/generate", json={"model": model}).json()["done_reason"] == "load"


def test_requests_during_an_unload_find_the_model_loaded_again(client: httpx.Client, model: str):
    """Asked while the old worker ends, the model is wanted again, and nobody hears that it is not there."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        unload = pool.submit(client.post, "/api/generate", json={"model": model, "keep_alive": 0})
        loads = [pool.submit(client.post, "/api/generate", json={"model": model}) for _ in range(3)]
        answers = [future.result() for future in [unload, *loads]]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert client.post("/api/generate", json={"model": model}).status_code == 200
    until(lambda: client.get("/api/ps").json()["models"], 120, "the model is back")


@pytest.mark.parametrize("path", ["push", "me", "signout", "experimental/web_search"])
def test_what_ollama_does_and_this_server_does_not_is_said_so(client: httpx.Client, path: str):
    answer = client.post(f"/api/{path}", json={"model": "demo"})
    assert answer.status_code == 501
    assert "not supported" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("POST", "/api/chat/?alt=sse", 307, "/api/chat?alt=sse"),
        ("POST", "/v1/messages/?beta=true", 307, "/v1/messages?beta=true"),
        ("POST", "/api/nothing/", 404, None),
        ("GET", "/v1/models/demo/", 301, "/v1/models/demo"),
        ("GET", "/v1/models/library/demo:latest/", 301, "/v1/models/library/demo%3Alatest"),
        # Flask takes any number of slashes at the beginning for one.
        ("GET", "//api/tags", 200, None),
        ("POST", "//v1/chat/completions", 400, None),
        ("GET", "/api//tags", 301, "/api/tags"),
        ("POST", "/v1//chat///completions?x=//", 307, "/v1/chat/completions?x=//"),
        ("POST", "//api/nothing", 404, None),
        ("GET", "//example.com/%2e%2e//api/tags", 404, None),
    ],
)
def test_a_slash_too_many_leads_to_the_route(
    client: httpx.Client, method: str, path: str, status: int, location: str | None
):
    # httpx would take a path that begins with two slashes for a host.
    url = f"{str(client.base_url).rstrip('/')}{path}"
    answer = client.request(method, url, json={}, follow_redirects=False)
    assert (answer.status_code, answer.headers.get("location")) == (status, location)
