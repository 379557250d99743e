"""Files that clients upload, and models that are made of them, over real HTTP."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest

from tests.support.answers import NDJSON, parse
from tests.support.library import WEIGHTS, digest, names, said, upload
from tests.support.servers import Server
from tests.support.waiting import until


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
    before = set(blobs.iterdir())
    until(lambda: list(blobs.glob("partial-*")), 120, "the upload has begun")
    connection.close()
    until(lambda: not list(blobs.glob("partial-*")), 120, "nothing of it is left")
    assert set(blobs.iterdir()) <= before
    assert http.head(f"/api/blobs/{digest(b'cut')}").status_code == 404


def test_a_model_is_made_of_uploaded_files(http: httpx.Client):
    answer = http.post("/api/create", json={"model": "own", "files": upload(http, WEIGHTS)})
    assert parse(answer.content, NDJSON)[-1] == {"status": "success"}
    assert http.post("/api/show", json={"model": "own"}).json()["details"]["family"] == "tiny"
    assert said(http, "own", "a b") == "a b"


def test_a_model_of_files_that_were_not_uploaded_is_refused(http: httpx.Client):
    files = {"config.json": digest(b"never"), "model.safetensors": digest(b"sent")}
    answer = http.post("/api/create", json={"model": "own", "files": files})
    assert (answer.status_code, "not found" in answer.json()["error"]) == (400, True)


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
