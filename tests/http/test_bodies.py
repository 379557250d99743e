"""Request bodies as no well-behaved client sends them: each gets an answer, and no answer is a 5xx."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.answers import chat, generate, parse, text
from tests.support.servers import SCRIPTED, Server

LIMIT = 100_000
JSON = "application/json; charset=utf-8"
HEAD = "POST /api/generate HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes bodies of up to 100,000 bytes."""
    server = Server.start(tmp_path_factory.mktemp("small"), {**SCRIPTED, "VLLM_WSGI_MAX_BODY": str(LIMIT)})
    yield server
    server.stop()


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Status and JSON of the next answer."""
    response = HTTPResponse(connection)
    response.begin()
    content = response.read()
    assert response.headers["Content-Type"] == JSON
    return response.status, json.loads(content)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def padded(length: int) -> bytes:
    """A good body of so many bytes, most of them white space."""
    body = json.dumps(generate("a b", stream=False)).encode()
    return body[:-1] + b" " * (length - len(body)) + b"}"


TOO_LARGE = {"error": f"the request body is longer than {LIMIT} bytes"}


def test_a_body_of_just_the_limit_is_read(small: Server):
    assert httpx.post(f"{small.url}/api/generate", content=padded(LIMIT)).json()["response"] == "a b "
    assert httpx.post(f"{small.url}/api/generate", content=iter([padded(LIMIT)])).json()["response"] == "a b "


def test_a_longer_body_is_refused_before_it_is_sent(small: Server):
    with small.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: {LIMIT + 1}\r\n\r\n".encode())
        assert answer(connection) == (413, TOO_LARGE)


def test_a_longer_body_is_refused_when_it_is_sent(small: Server):
    refused = httpx.post(f"{small.url}/api/chat", content=padded(10 * LIMIT))
    assert (refused.status_code, refused.json()) == (413, TOO_LARGE)


def test_a_longer_chunked_body_is_refused(small: Server):
    with small.connect() as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(chunked(*[padded(LIMIT // 4)] * 5))
        assert answer(connection) == (413, TOO_LARGE)


def test_a_connection_goes_on_after_a_413(small: Server):
    with httpx.Client(base_url=small.url) as client:
        assert client.post("/api/generate", content=padded(LIMIT + 1)).status_code == 413
        assert client.post("/api/generate", content=padded(500)).status_code == 200


def test_a_chunked_body_is_read_to_its_end(server: Server):
    body = json.dumps(generate("a b", stream=False)).encode()
    with server.connect() as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(chunked(*(body[at : at + 7] for at in range(0, len(body), 7))))
        status, record = answer(connection)
    assert (status, record["response"]) == (200, "a b ")


def test_a_body_that_ends_early_is_refused(server: Server):
    """What has come is a whole object, and still not what was announced."""
    body = json.dumps(generate("a")).encode()
    with server.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(body) + 10}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        status, record = answer(connection)
    assert (status, record) == (400, {"error": f"the request body ended after {len(body)} of {len(body) + 10} bytes"})


@pytest.mark.parametrize("framing", ["%x\r\n%s", "%x\r\n%s\r\nzz\r\n", "%x\r\n%sX"])
def test_a_chunked_body_that_is_cut_or_garbled_is_refused(server: Server, framing: str):
    body = json.dumps(generate("a"))
    with server.connect() as connection:
        length = len(body) + 10 * ("X" not in framing and "z" not in framing)
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{framing % (length, body)}".encode())
        connection.shutdown(socket.SHUT_WR)
        content = connection.makefile("rb").read()
    assert content.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in content


def test_no_length_is_no_body(server: Server):
    with server.connect() as connection:
        connection.sendall(f"{HEAD}\r\n".encode())
        assert answer(connection) == (400, {"error": "missing request body"})


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_compressed_body_is_decoded(client: httpx.Client, name: str, path: str):
    content = ENCODERS[name](json.dumps(generate("a b", stream=False)).encode())
    whole = client.post(path, content=content, headers={"Content-Encoding": name})
    chunked = client.post(path, content=iter([content[:9], content[9:]]), headers={"Content-Encoding": name})
    assert [answer.status_code for answer in (whole, chunked)] == [200, 200]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_limit_holds_for_what_a_compressed_body_holds(small: Server, name: str):
    headers = {"Content-Encoding": name}
    fits = httpx.post(f"{small.url}/api/generate", content=ENCODERS[name](padded(LIMIT)), headers=headers)
    bomb = httpx.post(f"{small.url}/api/generate", content=ENCODERS[name](padded(1000 * LIMIT)), headers=headers)
    assert (fits.status_code, bomb.status_code) == (200, 413)
    assert bomb.json() == {"error": f"the request body holds more than {LIMIT} bytes"}


@pytest.mark.parametrize("name", ["br", "gzip, br", "nonsense"])
def test_another_content_coding_is_a_415_that_names_it(client: httpx.Client, name: str):
    for path in ("/api/chat", "/v1/chat/completions", "/v1/messages", "/api/create"):
        answer = client.post(path, content=b"{}", headers={"Content-Encoding": name})
        assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate, zstd")
        assert name.rpartition(" ")[2] in answer.text


@pytest.mark.parametrize("name", ENCODERS)
def test_a_body_that_is_not_what_its_content_coding_says_is_a_400(client: httpx.Client, name: str):
    answer = client.post("/api/chat", content=b'{"model": "demo"}', headers={"Content-Encoding": name})
    assert answer.status_code == 400
    assert "the request body is not valid" in answer.json()["error"]


def test_a_file_is_uploaded_decoded(client: httpx.Client):
    data = bytes(3_000_000) + b"end"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    answer = client.post(f"/api/blobs/{digest}", content=gzip.compress(data), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 201
    assert client.head(f"/api/blobs/{digest}").status_code == 200


def test_a_body_of_very_many_values_is_refused(client: httpx.Client):
    answer = client.post("/api/generate", content=b'{"model":"demo","context":[' + b"0," * 10_000_000 + b"0]}")
    assert answer.status_code == 400
    assert "too many values" in answer.json()["error"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ";;"])
def test_the_content_type_does_not_matter(client: httpx.Client, media_type: str):
    body = json.dumps(chat("a b", stream=False))
    got = client.post("/api/chat", content=body, headers={"Content-Type": media_type})
    assert (got.status_code, got.json()["message"]["content"]) == (200, "a b ")


@pytest.mark.parametrize("after", [b"}", b"{}", b"\n\n", b"\0\xff", b" trailing"])
def test_what_follows_the_object_is_not_read(client: httpx.Client, after: bytes):
    got = client.post("/api/generate", content=json.dumps(generate("a", stream=False)).encode() + after)
    assert (got.status_code, got.json()["response"]) == (200, "a ")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (b'"\xff\xfe"', "\ufffd\ufffd "),
        (b'"\\ud800"', "\ufffd "),
        (b'"\\udc00\\ud800x"', "\ufffd\ufffdx "),
        (b'"\\ud83d\\ude00"', "\U0001f600 "),
        (b'"a\\u0000b"', "a\0b "),
        ('"é\u2028"'.encode(), "é\u2028 "),
    ],
)
def test_odd_characters_come_back(client: httpx.Client, prompt: bytes, said: str):
    body = b'{"model":"demo","stream":false,"prompt":' + prompt + b"}"
    assert client.post("/api/generate", content=body).json()["response"] == said


@pytest.mark.parametrize("name", ["demo\0", "\0", "\ud800", "../demo", "/", "demo" * 100])
def test_an_odd_name_is_no_name(client: httpx.Client, name: str):
    for path in ("/api/generate", "/api/chat", "/api/show"):
        body = json.dumps({"model": name, "prompt": "a"})
        assert client.post(path, content=body).json() == {"error": "invalid model name"}


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "9" * 5000, "-" + "9" * 400, str(2**63), str(2**64), "1e-400", "-0"]
)
@pytest.mark.parametrize("name", ["temperature", "num_predict", "num_ctx", "top_k", "seed", "num_gpu", "unknown"])
def test_a_huge_number_is_taken_or_refused(client: httpx.Client, name: str, number: str):
    body = f'{{"model":"demo","prompt":"a","stream":false,"options":{{"{name}":{number}}}}}'
    got = client.post("/api/generate", content=body)
    assert got.status_code in (200, 400)
    assert got.status_code == 200 or name in got.json()["error"]


@pytest.mark.parametrize(
    "name", ["keep_alive", "context", "format", "think", "top_logprobs", "stream", "tools", "prompt"]
)
def test_a_huge_number_elsewhere_is_taken_or_refused(client: httpx.Client, name: str):
    for number in ("1e400", "9" * 5000, str(2**64)):
        for value in (number, f"[{number}]", f'{{"a":{number}}}'):
            got = client.post("/api/generate", content=f'{{"model":"demo","prompt":"a","{name}":{value}}}')
            assert got.status_code in (200, 400)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"model":"demo","messages":[', '{"model":"demo","format":{"a":'])
def test_what_is_nested_too_deep_is_refused(client: httpx.Client, opening: str):
    got = client.post("/api/chat", content=opening + "[" * 200_000)
    assert got.status_code == 400
    assert got.headers["Content-Type"] == JSON


DEEP = [
    '{"model":"demo","prompt":"a","stream":false,"format":{"a":%s}}',
    '{"model":"demo","messages":[{"role":"user","content":"a"}],"stream":false,"tools":[{"a":%s}]}',
    '{"model":"demo","messages":[{"role":"user","content":"a","tool_calls":[{"function":{"arguments":{"a":%s}}}]}]}',
    '{"model":"demo","prompt":"a","options":{"a":%s}}',
]


@pytest.mark.parametrize("body", DEEP)
def test_a_deep_body_breaks_no_other_stream(server: Server, client: httpx.Client, body: str):
    """Every depth at which some recursion between the socket and the engine may give up."""
    path = "/api/chat" if "messages" in body else "/api/generate"
    with httpx.stream("POST", f"{server.url}/api/chat", json=chat("a !sleep:1 b")) as other:
        reads = other.iter_raw()
        content = next(reads)
        for depth in [*range(10, 60, 10), *range(100, 1200, 50), 1500, 2000, 5000, 10_000, 50_000]:
            got = client.post(path, content=body % ("[" * depth + "]" * depth))
            assert (depth, got.status_code) in [(depth, 200), (depth, 400)]
        content += b"".join(reads)
    assert text(parse(content, "application/x-ndjson")) == "a b "


# --- anything --------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=8)
# Nothing unloads the model: that is for another test, and would take its time.
awake = values.filter(lambda value: value != 0 and not isinstance(value, str))
option_names = st.sampled_from(["temperature", "top_k", "top_p", "seed", "stop", "num_ctx", "num_predict", "use_mmap"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt": values, "system": values, "template": values, "suffix": values, "raw": values, "context": values,
    "think": values, "format": values, "stream": values, "stream_type": values, "truncate": values, "tools": values,
    "options": values | st.dictionaries(option_names, values), "keep_alive": awake, "top_logprobs": values,
    "messages": values | st.lists(
        st.fixed_dictionaries({}, optional={
            "role": st.sampled_from(["user", "system", "assistant", "tool"]) | values, "content": st.text() | values,
            "images": values, "tool_calls": values | st.lists(st.fixed_dictionaries({"function": values})),
        })
    ),
}  # fmt: skip
bodies = st.fixed_dictionaries({"model": st.just("demo") | values}, optional=FIELDS)
anything = bodies.map(lambda body: json.dumps(body).encode()) | values.map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(["/api/chat", "/api/generate", "/api/show"]), body=anything | st.binary())
def test_no_body_is_a_server_error(client: httpx.Client, path: str, body: bytes):
    got = client.post(path, content=body)
    assert got.status_code < 500, (got.status_code, got.text)
    assert b'{"error":' not in got.content or got.status_code != 200
