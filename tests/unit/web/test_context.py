"""One context a request: its id, and how its client's presence is known."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator

import pytest
from flask import Flask

from service.web.context import accept_or_make, context, open_context, presence


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.mark.parametrize(
    "offered",
    ["a", "0" * 128, "Root=1-67891233-abcdef012345678912345678", "0A01:D431_0A02:01BB_65F3A7C1_0004:1", "a/b+c~d@e.f"],
)
def test_a_sane_id_is_taken(offered: str):
    assert accept_or_make(offered) == offered


@pytest.mark.parametrize("offered", ["", "a" * 129, "a b", "a\n", "a,b", 'a"b', "a\\b", "é", "<a>", "a%0a"])
def test_any_other_is_replaced_by_one_of_ours(offered: str):
    assert re.fullmatch("[0-9a-f]{32}", accept_or_make(offered))
    assert accept_or_make(offered) != accept_or_make(offered)


def test_a_request_has_one_context(app: Flask):
    with app.test_request_context("/", headers={"X-Request-Id": "ours"}):
        opened = open_context(None)
        assert context() is opened
        assert (opened.id, opened.key.caller.name, opened.stats.route) == ("ours", "", "")


def test_two_requests_have_two(app: Flask):
    ids = set()
    for _ in range(2):
        with app.test_request_context("/"):
            ids.add(context().id)
    assert len(ids) == 2


@pytest.fixture
def client() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def test_under_gunicorn_the_clients_socket_is_watched(
    app: Flask, monkeypatch: pytest.MonkeyPatch, client: socket.socket
):
    monkeypatch.setattr(sys, "platform", "linux")
    with app.test_request_context("/", environ_base={"gunicorn.socket": client}):
        found = presence()
    assert found.fileno is not None
    assert (found.fileno(), found.gone) == (client.fileno(), None)


def test_a_system_without_epoll_watches_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch, client: socket.socket):
    monkeypatch.setattr(sys, "platform", "darwin")
    with app.test_request_context("/", environ_base={"gunicorn.socket": client}):
        assert presence().fileno is None


def test_under_waitress_its_callable_is_asked(app: Flask):
    with app.test_request_context("/", environ_base={"waitress.client_disconnected": lambda: True}):
        gone = presence().gone
    assert gone is not None
    assert gone()
