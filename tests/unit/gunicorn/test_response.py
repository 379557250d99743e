"""How many writes a response takes, and that each of them is whole."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http import wsgi

from service.gunicorn.response import WebResponse


class Socket:
    """Keeps each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: Any) -> None:
        self.writes.append(bytes(data))


def written(pieces: list[bytes], length: int | None = None, method: str = "GET", status: str = "200 OK") -> list[bytes]:
    """Return the writes of a response that has these pieces; the head is cut off the one that has it."""
    socket = Socket()
    request = SimpleNamespace(version=(1, 1), method=method, should_close=lambda: False)
    response: Any = WebResponse(request, socket, SimpleNamespace(sendfile=False, is_ssl=False))
    response.start_response(status, [] if length is None else [("Content-Length", str(length))])
    for piece in pieces:
        response.write(piece)
    response.close()
    head, end, rest = socket.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status.encode())
    assert end
    return [rest, *socket.writes[1:]]


def test_the_head_leaves_with_the_first_piece():
    assert written([b"one", b"two"]) == [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]
    assert written([b"one", b"two"], length=6) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("pieces", "length", "method", "status", "writes"),
    [
        ([], None, "GET", "200 OK", [b"0\r\n\r\n"]),
        ([], 0, "GET", "200 OK", [b""]),
        ([b"one"], 3, "HEAD", "200 OK", [b""]),
        ([], None, "HEAD", "200 OK", [b""]),
        ([], None, "GET", "204 No Content", [b""]),
        # gunicorn sends no empty chunk, which would end the body.
        ([b"", b"one"], None, "GET", "200 OK", [b"", b"3\r\none\r\n", b"0\r\n\r\n"]),
    ],
)
def test_a_head_without_a_body_leaves_alone(
    pieces: list[bytes], length: int | None, method: str, status: str, writes: list[bytes]
):
    assert written(pieces, length, method, status) == writes


@pytest.mark.parametrize("length", [None, 4])
def test_all_bytes_are_gunicorns_own(length: int | None, monkeypatch: pytest.MonkeyPatch):
    ours = b"".join(written([b"ab", b"cd"], length))
    monkeypatch.setattr("tests.unit.gunicorn.test_response.WebResponse", wsgi.Response)
    first, *rest = written([b"ab", b"cd"], length)
    assert (first, b"".join(rest)) == (b"", ours)


def test_a_file_comes_after_its_head():
    socket = Socket()
    request = SimpleNamespace(version=(1, 1), method="GET", should_close=lambda: False)
    response: Any = WebResponse(request, socket, SimpleNamespace(sendfile=False, is_ssl=False))
    response.start_response("200 OK", [("Content-Length", "3")])
    response.write_file(wsgi.FileWrapper(io.BytesIO(b"abc")))
    response.close()
    assert b"".join(socket.writes).endswith(b"\r\n\r\nabc")
