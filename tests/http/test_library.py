"""Models made, copied, deleted and shown over real HTTP, on scripted engines."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.answers import NDJSON, SSE, chat, parse, terminal, text
from tests.support.library import WEIGHTS, create, delete, digest, names, said, upload
from tests.support.servers import Server
from tests.support.waiting import until

# --- create ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [NDJSON, SSE])
def test_a_creation_tells_its_progress_in_the_format_that_is_asked_for(http: httpx.Client, media_type: str):
    answer = http.post("/api/create", json={"model": "mine", "from": "demo"}, headers={"Accept": media_type})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert parse(answer.content, media_type) == [{"status": "writing manifest"}, {"status": "success"}]


def test_a_creation_that_is_not_streamed_is_its_last_record(http: httpx.Client):
    answer = create(http, "mine", stream=False)
    assert (answer.headers["content-type"], answer.json()) == (
        "application/json; charset=utf-8",
        {"status": "success"},
    )


def test_what_a_model_was_made_with_holds_for_its_chats(http: httpx.Client):
    create(http, "mine", system="Rhyme.", parameters={"num_predict": 2})
    assert said(http, "MINE:latest", "!system b c") == "Rhyme. b"
    assert said(http, "demo", "!system b c") == "b c"


def test_a_model_made_from_another_shares_its_engine(http: httpx.Client, library: Server):
    create(http, "mine", system="Rhyme.")
    said(http, "mine", "a"), said(http, "demo", "a")
    assert len(library.engine_workers()) == 1
    assert {"mine:latest", "demo:latest"} <= {model["name"] for model in http.get("/api/ps").json()["models"]}


def test_a_model_made_shows_what_it_was_made_with(http: httpx.Client):
    examples = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    create(http, "mine", system="Rhyme.", parameters={"stop": ["x", "y"]}, license="MIT", messages=examples)
    shown = http.post("/api/show", json={"model": "mine"}).json()
    assert (shown["system"], shown["license"], shown["messages"]) == ("Rhyme.", "MIT", examples)
    assert shown["details"]["parent_model"] == "demo:latest"
    assert [line.split() for line in shown["parameters"].splitlines() if "stop" in line] == [
        ["stop", '"x"'],
        ["stop", '"y"'],
    ]
    assert "FROM demo:latest" in shown["modelfile"]


def test_what_is_made_anew_is_the_new_model(http: httpx.Client):
    create(http, "mine", system="One.")
    assert said(http, "mine", "!system") == "One."
    create(http, "mine", system="Two.")
    assert said(http, "mine", "!system") == "Two."


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"from": "nobody"}, 404, "model 'nobody' not found"),
        ({"from": ""}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": "demo"}, 403, "declared by the operator"),
        ({"quantize": "q4_K_M"}, 501, "vLLM quantizes a model while it loads it"),
        ({"from": "", "files": {"a.gguf": digest(b"")}}, 501, "GGUF files are not supported"),
        (
            {"files": []},
            400,
            "json: cannot unmarshal array into Go struct field CreateRequest.files of type map[string]string",
        ),
        ({"license": 5}, 400, "CreateRequest.license of type []string"),
        ({"stream": "no"}, 400, "stream must be true, false"),
        ({"parameters": {"temperature": "hot"}}, 400, 'option "temperature" must be of type float32'),
    ],
)
def test_a_creation_that_cannot_be_is_refused(http: httpx.Client, fields: dict[str, Any], status: int, message: str):
    answer = http.post("/api/create", json={"model": "mine", "from": "demo", **fields})
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert names(http) == {"demo:latest"}


def test_a_name_that_is_too_long_for_a_file_is_a_bad_request(http: httpx.Client):
    assert create(http, "h" * 349 + "/a/b", stream=False).status_code == 400


# --- copy, delete ----------------------------------------------------------------------------------------


def test_a_copy_answers_and_outlives_its_source(http: httpx.Client):
    create(http, "mine", system="Rhyme.")
    answer = http.post("/api/copy", json={"source": "mine", "destination": "team/yours:v1"})
    assert (answer.status_code, answer.content, "content-type" in answer.headers) == (200, b"", False)
    assert delete(http, "mine").status_code == 200
    assert names(http) == {"demo:latest", "team/yours:v1"}
    assert said(http, "team/yours:v1", "!system") == "Rhyme."


def test_a_model_that_is_deleted_is_gone(http: httpx.Client):
    create(http, "mine")
    answer = delete(http, "Mine")
    assert (answer.status_code, answer.content) == (200, b"")
    answer = http.post("/api/chat", json=chat("a", model="mine"))
    assert (answer.status_code, answer.json()) == (404, {"error": "model 'mine' not found"})


def test_a_model_that_is_deleted_while_it_answers_ends_its_answer(http: httpx.Client, library: Server):
    own = {path: data + b" " for path, data in WEIGHTS.items()}
    http.post("/api/create", json={"model": "mine", "files": upload(http, own)})
    with http.stream("POST", "/api/chat", json=chat("a !sleep:1 b", model="mine")) as answer:
        lines = answer.iter_lines()
        records = [json.loads(next(lines))]
        assert delete(http, "mine").status_code == 200
        records += [json.loads(line) for line in lines]
    assert (text(records), terminal(records[-1])) == ("a b ", True)
    until(lambda: len(library.engine_workers()) == 1, 120, "its engine has ended")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "copy", {}, 400, 'source "" is invalid'),
        ("POST", "copy", {"source": "demo", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("POST", "copy", {"source": "nobody", "destination": "x"}, 404, 'model "nobody" not found'),
        ("POST", "copy", {"source": "demo", "destination": "demo"}, 403, "declared by the operator"),
        ("DELETE", "delete", {}, 400, "model is required"),
        ("DELETE", "delete", {"name": "a b"}, 400, 'name "a b" is invalid'),
        ("DELETE", "delete", {"model": "nobody"}, 404, "model 'nobody' not found"),
        ("DELETE", "delete", {"model": "demo"}, 403, "declared by the operator"),
    ],
)
def test_what_cannot_be_copied_or_deleted_is_refused(
    http: httpx.Client, method: str, path: str, body: dict[str, Any], status: int, message: str
):
    answer = http.request(method, f"/api/{path}", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


# --- show, verbose ---------------------------------------------------------------------------------------


def test_a_verbose_show_tells_tensors_and_tokens(http: httpx.Client):
    shown = http.post("/api/show", json={"model": "demo", "verbose": True}).json()
    assert {"name": "model.norm.weight", "type": "BF16", "shape": [192]} in shown["tensors"]
    assert "<|im_start|>" in shown["model_info"]["tokenizer.ggml.tokens"]
    assert "tensors" not in http.post("/api/show", json={"model": "demo"}).json()


@pytest.mark.parametrize(("agent", "name"), [("GitHubCopilotChat/0.31", "DEMO:latest"), ("curl/8", "demo")])
def test_copilot_is_told_the_name_that_it_asked_for(http: httpx.Client, agent: str, name: str):
    answer = http.post("/api/show", json={"model": "DEMO:latest"}, headers={"User-Agent": agent})
    assert answer.json()["model_info"]["general.basename"] == name
