"""Models made, copied, pulled and deleted over real HTTP, on scripted engines and a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hub import LoopbackHub
from tests.support.servers import NDJSON, ROOT, SCRIPTED, SSE, Server, chat, one_is_done, parse, terminal, text, until

DEMO = ROOT / "models" / "demo"
WEIGHTS = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    hub.commit("org/demo", DEMO)
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, hub: LoopbackHub) -> Iterator[Server]:
    """A server whose models clients change."""
    directory = tmp_path_factory.mktemp("library")
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(directory / "hf"), "NO_PROXY": "*", "VLLM_WSGI_MAX_BODY": "100000"}
    server = Server.start(directory, {**SCRIPTED, **env})
    yield server
    server.stop()


@pytest.fixture
def http(library: Server) -> Iterator[httpx.Client]:
    """Every model that a test makes is gone after it."""
    with httpx.Client(base_url=library.url, timeout=120) as client:
        yield client
        for name in names(client) - {"demo:latest"}:
            assert delete(client, name).status_code == 200


def names(client: httpx.Client) -> set[str]:
    return {model["name"] for model in client.get("/api/tags").json()["models"]}


def delete(client: httpx.Client, name: str) -> httpx.Response:
    return client.request("DELETE", "/api/delete", json={"model": name})


def create(client: httpx.Client, name: str, **fields: Any) -> httpx.Response:
    return client.post("/api/create", json={"model": name, "from": "demo", **fields})


def said(client: httpx.Client, model: str, script: str) -> str:
    return text(parse(client.post("/api/chat", json=chat(script, model=model)).content, NDJSON)).strip()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(client: httpx.Client, files: dict[str, bytes]) -> dict[str, str]:
    for data in files.values():
        client.post(f"/api/blobs/{digest(data)}", content=data)
    return {path: digest(data) for path, data in files.items()}


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


# --- blobs -----------------------------------------------------------------------------------------------


def test_a_blob_is_there_when_it_has_been_uploaded(http: httpx.Client):
    data = os.urandom(3_000_000)
    url = f"/api/blobs/{digest(data)}"
    answers = [http.head(url), http.post(url, content=data), http.head(url), http.post(url, content=data)]
    assert [answer.status_code for answer in answers] == [404, 201, 200, 200]
    assert [answer.content for answer in answers] == [b""] * 4


def test_a_blob_may_come_in_chunks(http: httpx.Client):
    url = f"/api/blobs/{digest(b'ab' * 100_000)}"
    assert http.post(url, content=iter([b"ab"] * 100_000)).status_code == 201
    assert http.head(url).status_code == 200


@pytest.mark.parametrize(
    ("announced", "message"),
    [
        (digest(b"a"), f'digest mismatch, expected "{digest(b"a")}", got "{digest(b"b")}"'),
        ("x", "invalid digest format"),
    ],
)
def test_a_blob_that_is_another_is_refused(http: httpx.Client, announced: str, message: str):
    answer = http.post(f"/api/blobs/{announced}", content=b"b")
    assert (answer.status_code, answer.json()) == (400, {"error": message})


def test_an_upload_that_is_cut_leaves_nothing(http: httpx.Client, library: Server, tmp_path_factory: Any):
    connection = library.connect()
    connection.sendall(
        f"POST /api/blobs/{digest(b'cut')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n".encode()
        + b"x" * 2_000_000
    )
    blobs = library.directory / "store" / "blobs"
    until(lambda: list(blobs.glob("partial-*")), 120, "the upload has begun")
    connection.close()
    until(lambda: not list(blobs.glob("partial-*")), 120, "nothing of it is left")


def test_a_model_is_made_of_uploaded_files(http: httpx.Client):
    answer = http.post("/api/create", json={"model": "own", "files": upload(http, WEIGHTS)})
    assert parse(answer.content, NDJSON)[-1] == {"status": "success"}
    assert http.post("/api/show", json={"model": "own"}).json()["details"]["family"] == "tiny"
    assert said(http, "own", "a b") == "a b"


def test_a_model_of_files_that_were_not_uploaded_is_refused(http: httpx.Client):
    files = {"config.json": digest(b"never"), "model.safetensors": digest(b"sent")}
    answer = http.post("/api/create", json={"model": "own", "files": files})
    assert (answer.status_code, "not found" in answer.json()["error"]) == (400, True)


# --- pull ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [NDJSON, SSE])
def test_a_pull_tells_its_progress_and_makes_a_model(http: httpx.Client, media_type: str):
    answer = http.post("/api/pull", json={"model": "hf.co/org/demo"}, headers={"Accept": media_type})
    first, *layers, writing, last = parse(answer.content, media_type)
    assert (first, writing, last) == (
        {"status": "pulling manifest"},
        {"status": "writing manifest"},
        {"status": "success"},
    )
    weights = [layer for layer in layers if layer["total"] == (DEMO / "model.safetensors").stat().st_size]
    assert weights[-1]["completed"] == weights[-1]["total"]
    assert weights[-1]["status"] == f"pulling {weights[-1]['digest'].removeprefix('sha256:')[:12]}"
    shown = http.post("/api/show", json={"model": "hf.co/org/demo"}).json()
    assert (shown["details"]["family"], said(http, "hf.co/org/demo", "a")) == ("qwen2", "a")


def test_what_was_pulled_is_deleted_with_its_last_name(http: httpx.Client, library: Server):
    def weights() -> list[Path]:
        return list((library.directory / "hf").rglob("model.safetensors"))

    http.post("/api/pull", json={"model": "org/demo", "stream": False})
    http.post("/api/copy", json={"source": "org/demo", "destination": "other"})
    delete(http, "org/demo")
    assert len(weights()) == 1
    delete(http, "other")
    assert weights() == []


def test_a_declared_model_that_is_here_needs_no_pull(http: httpx.Client):
    assert http.post("/api/pull", json={"model": "demo", "stream": False}).json() == {"status": "success"}


@pytest.mark.parametrize("name", ["llama3", "hf.co/org/nothing"])
def test_a_pull_of_what_nobody_has_says_so(http: httpx.Client, name: str):
    records = parse(http.post("/api/pull", json={"model": name}).content, NDJSON)
    assert records[0] == {"status": "pulling manifest"}
    assert "error" in records[-1]
    assert http.post("/api/pull", json={"model": name, "stream": False}).status_code == 404


def test_a_pull_ends_with_its_client(http: httpx.Client, library: Server, hub: LoopbackHub):
    hub.hold_at = 1 << 20
    try:
        with http.stream("POST", "/api/pull", json={"model": "org/demo"}) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines)) == {"status": "pulling manifest"}
            until(lambda: library.running("service.engine.hub.download"), 120, "the download runs")
        until(lambda: not library.running("service.engine.hub.download"), 120, "the download has ended")
    finally:
        hub.release()


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


# --- kills -----------------------------------------------------------------------------------------------


def test_a_host_that_is_killed_while_models_change_loses_none_that_it_had_promised(http: httpx.Client, library: Server):
    """Every creation that was answered is there, whole; every deletion that was answered has happened."""
    promised: dict[str, bool] = {}

    def change(number: int) -> None:
        name = f"kill-{number}:latest"
        with httpx.Client(base_url=library.url, timeout=120) as client:
            for _ in range(200):
                try:
                    made = create(client, name, system=f"I am {number}.", stream=False)
                    promised[name] = made.status_code == 200
                    if not promised[name]:
                        return
                    # From here on it may be gone, whether the answer comes or not.
                    promised[name] = False
                    if delete(client, name).status_code != 200:
                        return
                    create(client, name, system=f"I am {number}.", stream=False).raise_for_status()
                    promised[name] = True
                except httpx.HTTPError:
                    return

    (host,) = library.engine_hosts()
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(change, number) for number in range(4)]
        until(lambda: len(promised) == 4, 120, "models change", one_is_done(changes))
        os.kill(host, signal.SIGKILL)
        for each in changes:
            each.result()
    until(lambda: library.engine_hosts() and library.serves(), 120, "another host serves")
    here = names(http)
    assert {name for name, there in promised.items() if there} <= here
    for name in here - {"demo:latest"}:
        assert http.post("/api/show", json={"model": name}).json()["system"] == f"I am {name[5]}."


def test_a_model_that_can_not_be_described_ends_no_start_and_can_be_deleted(http: httpx.Client, library: Server):
    content = b'{"model_type": "planted"}'
    files = upload(http, WEIGHTS | {"config.json": content})
    assert http.post("/api/create", json={"model": "planted", "files": files, "stream": False}).status_code == 200
    (config,) = (path for path in library.directory.rglob("config.json") if path.read_bytes() == content)
    config.unlink()
    config.write_text('{"text_config": 5}')
    (host,) = library.engine_hosts()
    os.kill(host, signal.SIGKILL)
    until(lambda: library.engine_hosts() not in ([host], []) and library.models(), 120, "another host serves")
    assert names(http) == {"demo:latest"}
    (left_out,) = http.get("/api/status").json()["vllm_wsgi"]["left_out"]
    assert (left_out["name"], "text_config" in left_out["reason"]) == ("planted:latest", True)
    assert "planted:latest is left out: " in library.output
    assert http.post("/api/show", json={"model": "planted"}).status_code == 404
    assert [delete(http, "planted").status_code, delete(http, "planted").status_code] == [200, 404]
    assert http.get("/api/status").json()["vllm_wsgi"]["left_out"] == []


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b'{"text_config": 5}'}, {"config.json": b'{"max_position_embeddings": "x"}'},
        {"config.json": b"[" * 90_000}, {"model.safetensors": b"\x09\0\0\0\0\0\0\0" + b'{"w": 5} '},
        {"chat_template.jinja": b"\xff"}, {"config.json/": b"{}"}, {"config.json/x.json": b"{}"},
        {"x" * 305 + ".json": b"{}"},
    ],
)  # fmt: skip
def test_files_that_can_not_become_a_model_are_a_bad_request(http: httpx.Client, files: dict[str, bytes]):
    body = {"model": "planted", "files": upload(http, WEIGHTS | files), "stream": False}
    answer = http.post("/api/create", json=body)
    assert (answer.status_code, answer.json().keys()) == (400, {"error"})
    assert names(http) == {"demo:latest"}


def test_a_name_that_is_too_long_for_a_file_is_a_bad_request(http: httpx.Client):
    assert create(http, "h" * 349 + "/a/b", stream=False).status_code == 400


def test_a_host_that_is_killed_while_it_pulls_leaves_no_half_model(
    http: httpx.Client, library: Server, hub: LoopbackHub, tmp_path: Path
):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(os.urandom(3 << 20))
    hub.commit("org/large", tmp_path)
    hub.hold_at = 1 << 20
    with http.stream("POST", "/api/pull", json={"model": "org/large"}) as answer:
        lines = answer.iter_lines()
        until(lambda: hub.begun, 120, "the download has begun")
        os.kill(library.engine_hosts()[0], signal.SIGKILL)
        assert "error" in json.loads(list(lines)[-1])
    until(lambda: not library.running("service.engine.hub.download"), 120, "the download has ended with its host")
    until(lambda: library.engine_hosts() and library.serves(), 120, "another host serves")
    assert "org/large:latest" not in names(http)
    hub.release()
    assert http.post("/api/pull", json={"model": "org/large", "stream": False}).json() == {"status": "success"}
    assert "org/large:latest" in names(http)
