"""Reading a body in pieces, from a fake server."""

from __future__ import annotations

import io
import time

import flask
import pytest

from service.web.body import LEAST_READ_BYTES, READ_BYTES, read_body

BODY = bytes(range(256)) * 4096


class Input(io.BytesIO):
    """A chunked body that takes a second of CPU time for each `slow` bytes, by its own clock."""

    def __init__(self, data: bytes, slow: int) -> None:
        super().__init__(data)
        self._slow = slow
        self.clock = 0.0
        self.sizes: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.sizes.append(len(data))
        self.clock += len(data) / self._slow
        return data


def read(source: Input, monkeypatch: pytest.MonkeyPatch, length: int | None = None) -> list[int]:
    """The sizes of the pieces in which the body was read."""
    monkeypatch.setattr(time, "thread_time", lambda: source.clock)
    with flask.Flask("a").test_request_context("/", method="POST", input_stream=source):
        environ = flask.request.environ
        environ.pop("CONTENT_LENGTH", None)
        environ |= {"wsgi.input_terminated": True} if length is None else {"CONTENT_LENGTH": str(length)}
        assert read_body(len(BODY), lambda _: None) == BODY
    return source.sizes


def test_a_chunked_body_that_is_slow_to_parse_is_read_in_small_pieces(monkeypatch: pytest.MonkeyPatch):
    assert max(read(Input(BODY, 100_000), monkeypatch)) <= 2 * LEAST_READ_BYTES


def test_a_chunked_body_of_large_chunks_is_read_in_large_pieces(monkeypatch: pytest.MonkeyPatch):
    sizes = read(Input(BODY, 100_000_000), monkeypatch)
    assert (sizes[0], max(sizes)) == (LEAST_READ_BYTES, READ_BYTES)
    assert len(sizes) < 2 * len(BODY) // READ_BYTES


def test_a_body_with_a_length_is_read_in_large_pieces(monkeypatch: pytest.MonkeyPatch):
    sizes = read(Input(BODY, 100_000), monkeypatch, len(BODY))
    assert sizes == [READ_BYTES] * (len(BODY) // READ_BYTES)
