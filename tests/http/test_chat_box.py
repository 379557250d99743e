"""The tutorial's chat box, as it stands in the page. tests/page opens it in a browser."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import httpx
import pytest

from tests.support.answers import NDJSON, SSE, parse, text
from tests.support.chat_box import blocks, chat_box
from tests.support.servers import WebProgram


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProgram]:
    with chat_box(tmp_path_factory.mktemp("shop")) as host:
        yield host


def test_it_has_twenty_lines():
    existing, added = blocks("python")
    ast.parse(existing + added)
    assert len([line for line in added.splitlines() if line]) <= 20


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_it_streams_in_the_format_that_the_request_wants(host: WebProgram, accept: str):
    url, question = f"http://127.0.0.1:{host.port}/chat", "!rate:20 a b c d"
    with httpx.stream("POST", url, data={"question": question}, headers={"Accept": accept}, timeout=30) as answer:
        reads = list(answer.iter_raw())
    *records, last = parse(b"".join(reads), accept)
    assert (text(records), last["done"], len(reads) >= 3) == ("a b c d ", True, True)


def test_the_applications_own_pages_are_as_they_were(host: WebProgram):
    assert httpx.get(f"http://127.0.0.1:{host.port}/").text == "My shop"
    assert "<form>" in httpx.get(f"http://127.0.0.1:{host.port}/chat").text


def test_closing_the_page_cancels_the_generation(host: WebProgram):
    connection = host.connect()
    body = b"question=a+!sleep:600"
    form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(f"POST /chat HTTP/1.1\r\nHost: localhost\r\n{form}".encode() + body)
    host.wait_until_running(1)
    connection.close()
    host.wait_until_idle()
    assert httpx.get(f"http://127.0.0.1:{host.port}/").text == "My shop"
