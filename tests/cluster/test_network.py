"""Faults of a real network between a web machine and an engine machine: nothing is lost, and nobody is let in."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine_client.client import Client
from service.engine_client.connections import Connections
from service.errors import EngineGone
from service.transport.address import parse_address
from tests.cluster.conftest import Network
from tests.cluster.machines import PATIENCE_SECONDS, REQUESTS, WHOLE, Apart, answers, begin
from tests.support.certificates import certify
from tests.support.servers import Server
from tests.support.waiting import one_is_done, until


@pytest.fixture
def pool(network: Network) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        yield pool
        # Requests that a failed test leaves could not end otherwise.
        network.wire.repair()


def pulled(network: Network) -> None:
    network.wire.cut(network.web, network.gpu)


def deaf(network: Network) -> None:
    """The engine machine gets nothing of the web machine."""
    network.wire.cut_one_way(network.web, network.gpu)


def mute(network: Network) -> None:
    """The web machine gets nothing of the engine machine."""
    network.wire.cut_one_way(network.gpu, network.web)


@pytest.mark.parametrize("harm", [pulled, deaf, mute])
def test_streams_continue_when_a_lost_connection_is_back(
    network: Network, apart: Apart, pool: ThreadPoolExecutor, harm: Callable[[Network], None]
):
    """Nobody sends a FIN. Both sides notice by themselves: the web tier moves, and the engine generates for nobody."""
    noticed, cancelled = apart.server.output.count(" moves to "), apart.host.output.count("its web worker is gone")
    posts = begin(apart.server, pool)
    harm(network)
    until(
        lambda: apart.server.output.count(" moves to ") > noticed, PATIENCE_SECONDS, "the web tier notices",
        one_is_done(posts),
    )  # fmt: skip
    until(
        lambda: apart.host.output.count("its web worker is gone") > cancelled, PATIENCE_SECONDS, "the engine notices",
        one_is_done(posts),
    )  # fmt: skip
    network.wire.repair()
    assert answers(posts) == WHOLE


def test_a_slow_network_that_loses_packets_changes_nothing(network: Network, apart: Apart, pool: ThreadPoolExecutor):
    """200 ms to the other machine and back, and one packet of fifty lost in each direction."""
    lost = apart.server.output.count("is lost")
    network.wire.delay, network.wire.loss = 0.1, 0.02
    assert answers(begin(apart.server, pool)) == WHOLE
    assert apart.server.output.count("is lost") == lost


def test_strangers_are_not_let_in_and_keep_nobody_out(
    network: Network, apart: Apart, pool: ThreadPoolExecutor, pki: Path
):
    address = parse_address(apart.address)
    place = (address.host, address.first)
    with network.stranger.inside():
        silent = [socket.create_connection(place, 60) for _ in range(200)]
        for certificates in ("", certify(pki, ["stranger"], engine=True)):
            with pytest.raises(EngineGone):
                Connections(str(address), certificates).control(PATIENCE_SECONDS)
        assert words_to(place, b"GET / HTTP/1.1\r\n\r\n") == b""
    assert answers(begin(apart.server, pool)) == WHOLE
    for each in silent:
        each.close()


def words_to(place: tuple[str, int], words: bytes) -> bytes:
    """What a stranger gets for these words, but for alerts of TLS (RFC 8446, section 6), which all begin alike."""
    with socket.create_connection(place, 60) as stranger, contextlib.suppress(ConnectionError):
        stranger.sendall(words)
        answer = stranger.recv(1 << 16)
        return b"" if answer.startswith(b"\x15\x03") else answer
    return b""


def test_a_certificate_that_expires_admits_no_new_connection_until_it_is_renewed(network: Network, apart: Apart):
    machine = certify(apart.pki, ["brief"], engine=False, seconds=10)
    open_one = Client(apart.address, 10.0, tls=machine)
    assert open_one.trouble() == ""
    until(lambda: "certificate" in refusal(apart.address, machine), PATIENCE_SECONDS, "the certificate has expired")
    assert open_one.trouble() == ""
    for file in Path(certify(apart.pki, ["brief"], engine=False)).iterdir():
        file.replace(Path(machine, file.name))
    assert Client(apart.address, 10.0, tls=machine).trouble() == ""


def refusal(address: str, tls: str) -> str:
    try:
        Connections(address, tls).control()
    except EngineGone as error:
        return error.message
    return ""


def test_models_are_served_while_the_engine_host_is_away(network: Network, apart: Apart, pool: ThreadPoolExecutor):
    """The host hangs, its engine worker does not. Streams go on, new requests are served, and readiness says so."""
    posts = begin(apart.server, pool)
    (host,) = apart.host.running("service.engine.host")
    os.kill(host, signal.SIGSTOP)
    try:
        until(lambda: "engine_host" in ready(apart.server), PATIENCE_SECONDS, "readiness says it")
        later = [
            pool.submit(httpx.post, f"{apart.server.url}{path}", json=body, timeout=240) for path, body in REQUESTS
        ]
        assert answers(posts) == answers(later) == WHOLE
        assert "demo" in ready(apart.server)["engine_host"]
    finally:
        os.kill(host, signal.SIGCONT)
    until(lambda: ready(apart.server) == {"status": "ready"}, PATIENCE_SECONDS, "readiness is as before")
    assert answers(begin(apart.server, pool)) == WHOLE


def ready(server: Server) -> dict[str, str]:
    return dict(httpx.get(f"{server.url}/readyz", timeout=60).json())


def test_the_web_machine_needs_no_store(network: Network, apart: Apart):
    """A stored response lies on the engine machine, and comes from there."""
    body: dict[str, Any] = {"model": "demo", "input": "a b", "store": True}
    stored = httpx.post(f"{apart.server.url}/v1/responses", json=body, timeout=60).json()
    found = httpx.get(f"{apart.server.url}/v1/responses/{stored['id']}", timeout=60)
    assert found.json()["output"] == stored["output"]
