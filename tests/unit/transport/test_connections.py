"""Both ends of the queue over TCP and TLS on loopback: who is let in, and what threads may do at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.engine import tcp_listener
from service.engine.listener import Listening, listen
from service.engine_client import connections as client_side
from service.engine_client.connections import Connections
from service.engine_client.inbox import Inbox
from service.errors import EngineGone
from service.protocol.commands import Check, Embed
from service.protocol.events import Checked, Event
from service.protocol.request import Caller, EmbedRequest
from service.transport.address import parse_address
from service.transport.connect import connect
from tests.support.certificates import certify

ECHOES = 40
PART = "x" * 300_000


@contextmanager
def listening(address: str, tls: str = "", pulses: bool = False) -> Iterator[str]:
    """The address of a listener in a thread of its own; it answers with what it was asked."""

    async def check(command: Check) -> AsyncGenerator[Event, None]:
        yield Checked(command.id, "fine")

    async def echo(command: Embed) -> AsyncGenerator[Event, None]:
        yield Checked(command.id, command.request.inputs[0])

    async def start() -> Listening:
        return await listen(parse_address(address), {Check: check, Embed: echo}, tls, pulses=pulses)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        listener = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        yield str(listener.address)
        loop.call_soon_threadsafe(listener.close)
    finally:
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def asked(connections: Connections, text: str = "") -> str:
    inbox = Inbox(client_side.new_id())
    request = EmbedRequest(model="m", caller=Caller(), inputs=[text])
    connections.control().send(Embed(inbox.id, request) if text else Check(inbox.id), inbox)
    (event,) = inbox.get(60)
    assert isinstance(event, Checked), event
    return event.trouble


def refusal(address: str, tls: str) -> str:
    with pytest.raises(EngineGone) as caught:
        Connections(address, tls).control()
    return caught.value.message


@pytest.fixture
def engine(tmp_path: Path) -> str:
    return certify(tmp_path, ["localhost"], engine=True)


def test_plain_tcp_works_on_loopback():
    with listening("tcp://127.0.0.1:0") as address:
        assert asked(Connections(address)) == "fine"


def test_a_web_machine_of_the_same_ca_is_served(tmp_path: Path, engine: str):
    with listening("tls://localhost:0", engine) as address:
        assert asked(Connections(address, certify(tmp_path, ["web"], engine=False))) == "fine"


def test_threads_read_and_write_one_connection_at_once(tmp_path: Path, engine: str):
    with listening("tls://localhost:0", engine) as address, ThreadPoolExecutor(8) as pool:
        connections = Connections(address, certify(tmp_path, ["web"], engine=False))
        texts = [f"{number} {PART}" for number in range(ECHOES)]
        assert list(pool.map(lambda text: asked(connections, text), texts)) == texts


@pytest.mark.parametrize(
    ("ca", "seconds", "reason"),
    [("other", 60.0, "self-signed certificate in certificate chain|unable to get local issuer"),
     ("ca", -60.0, "refuses this machine's certificate|certificate expired")],
    ids=["another CA", "expired"],
)  # fmt: skip
def test_a_machine_without_the_right_certificate_is_refused(
    tmp_path: Path, engine: str, ca: str, seconds: float, reason: str
):
    with listening("tls://localhost:0", engine) as address:
        machine = certify(tmp_path, ["web"], engine=False, seconds=seconds, ca=ca)
        message = refusal(address, machine)
        assert any(each in message for each in reason.split("|")), message


def test_an_engine_that_is_another_machine_is_refused(tmp_path: Path):
    stranger = certify(tmp_path, ["gpu2"], engine=True)
    with listening("tls://127.0.0.1:0", stranger) as address:
        web = certify(tmp_path, ["web"], engine=False)
        assert "not valid for 'gpu1'" in _refused_as("gpu1", address, web)


def test_a_name_with_a_dot_at_its_end_is_the_name_of_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    look_up = socket.getaddrinfo
    # The name has a dot where a resolver must not add a domain. Few resolvers know this one.
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: look_up(host.rstrip("."), *rest, **more))
    web = certify(tmp_path, ["web"], engine=False)
    with listening("tls://localhost:0", certify(tmp_path, ["localhost"], engine=True)) as address:
        assert asked(Connections(address.replace("localhost", "localhost."), web)) == "fine"


def test_a_web_machine_can_not_pass_for_an_engine(tmp_path: Path):
    with listening("tls://localhost:0", certify(tmp_path, ["localhost"], engine=False)) as address:
        assert "purpose" in refusal(address, certify(tmp_path, ["web"], engine=False))


def _refused_as(name: str, address: str, tls: str) -> str:
    """What a client says that has reached the listener under another name."""
    from service.transport.tls_socket import TlsSocket

    port = parse_address(address).first
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ConnectionError) as caught:
        TlsSocket(plain, name, tls, time.monotonic() + 60)
    return str(caught.value)


def test_a_stranger_learns_nothing(engine: str):
    with listening("tls://localhost:0", engine) as address:
        port = parse_address(address).first
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\x90", b"\x16\x03\x01\xff\xff" + b"x" * 700):
            with socket.create_connection(("localhost", port), timeout=60) as stranger:
                with contextlib.suppress(ConnectionError):
                    stranger.sendall(words)
                    stranger.shutdown(socket.SHUT_WR)
                assert b"Hello" not in _all_of(stranger)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("localhost", port), timeout=60) as plain,
            context.wrap_socket(plain) as stranger,
        ):
            assert _all_of(stranger) == b""


def _all_of(stranger: socket.socket) -> bytes:
    parts = []
    try:
        while part := stranger.recv(1 << 16):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)


def test_strangers_can_not_keep_a_web_machine_out(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch):
    """Two hundred that connect and send nothing; there is room for four."""
    monkeypatch.setattr(tcp_listener, "MAX_HANDSHAKES", 4)
    monkeypatch.setattr(tcp_listener, "HANDSHAKE_SECONDS", 600.0)
    web = certify(tmp_path, ["web"], engine=False)
    with listening("tls://127.0.0.1:0", engine) as address:
        port = parse_address(address).first
        # From another address of this machine: what a host does falls on its own handshakes first.
        strangers = [socket.create_connection(("127.0.0.1", port), 60, ("127.0.0.9", 0)) for _ in range(200)]
        assert asked(Connections(address, web)) == "fine"
        for stranger in strangers:
            stranger.close()


def test_a_silent_engine_is_lost_and_a_quiet_one_is_not(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_side, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr("service.engine.listener.PULSE_SECONDS", 0.1)
    web = certify(tmp_path, ["web"], engine=False)
    with listening("tls://localhost:0", engine) as address:
        connection = Connections(address, web).control()
        # Longer than it may be silent; the engine has nothing to say but that it is there.
        time.sleep(4)
        assert not connection.closed
    with listening("tls://localhost:0", engine) as address:
        monkeypatch.setattr("service.engine.listener.PULSE_SECONDS", 600.0)
        connection, inbox = Connections(address, web).control(), Inbox(1)
        connection._inboxes[1] = inbox
        (lost,) = inbox.get(60)
        assert lost.kind == "EngineGone"
        assert connection.closed


def test_an_address_of_a_host_that_does_not_answer_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as silent, socket.socket() as waiting, listening("tcp://127.0.0.1:0") as address:
        silent.bind(("127.0.0.1", 0))
        # Once one connection waits to be accepted, the kernel answers no other one.
        silent.listen(0)
        waiting.connect(silent.getsockname())
        places = [silent.getsockname(), ("127.0.0.1", parse_address(address).first)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        connection = connect(parse_address("tcp://localhost:1"), 2.0)
        assert isinstance(connection, socket.socket)
        assert connection.getpeername() == places[1]
        connection.close()


def test_no_free_port_is_said(engine: str):
    with listening("tls://localhost:0", engine) as address, pytest.raises(OSError, match="in use"):
        tcp_listener.bind(parse_address(address))


def test_a_host_on_the_same_machine_that_hangs_is_lost(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_side, "HANGS_SECONDS", 1.0)
    monkeypatch.setattr("service.engine.listener.PULSE_SECONDS", 600.0)
    with listening(str(scratch / "host.sock"), pulses=True) as address:
        connection, inbox = Connections(address).control(), Inbox(1)
        connection._inboxes[1] = inbox
        (lost,) = inbox.get(60)
        assert (lost.kind, lost.message) == ("EngineGone", "the engine has sent nothing for 1 s")
        assert connection.closed


@pytest.fixture
def silent_worker(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an engine worker that says that it pulses, and does not."""
    monkeypatch.setattr("service.engine.listener.PULSE_SECONDS", 600.0)
    with listening(str(scratch / "worker.sock"), pulses=True) as address:
        yield address


def test_an_engine_worker_on_the_same_machine_may_be_silent_while_its_host_answers(scratch: Path, silent_worker: str):
    """Its host watches it."""
    with listening(str(scratch / "host.sock")) as host:
        connections = Connections(host, hangs_seconds=0.3)
        connection = connections.connection(silent_worker)
        time.sleep(1)
        assert asked(connections) == "fine"
        assert connections.connection(silent_worker) is connection


def test_an_engine_worker_that_is_silent_is_lost_when_its_host_is(scratch: Path, silent_worker: str):
    connection, inbox = Connections(str(scratch / "none.sock"), hangs_seconds=0.3).connection(silent_worker), Inbox(1)
    connection._inboxes[1] = inbox
    (lost,) = inbox.get(60)
    assert (lost.kind, lost.message) == ("EngineGone", "the engine has sent nothing for 0.3 s")
    assert connection.closed


def test_a_process_that_was_stopped_itself_reads_what_came_meanwhile(scratch: Path, monkeypatch: pytest.MonkeyPatch):
    """Its time-out has passed when it goes on, and the engine has not been silent."""
    clock = [0.0]
    with listening(str(scratch / "host.sock")) as address:
        connection = Connections(address).control()

        def receive() -> bytes:
            if not clock[0]:
                clock[0] = 9.0
                raise TimeoutError
            return b"late"

        connection._silence = 2.0
        monkeypatch.setattr(connection, "_receive", receive)
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        assert connection._receive_next() == b"late"
        monkeypatch.undo()
