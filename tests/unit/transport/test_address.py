"""Addresses: which texts are one, and where a client connects."""

from __future__ import annotations

import pytest

from service.config import Settings
from service.errors import BadRequest, SettingsError
from service.transport.address import Address, new_worker_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/engine.sock", Address("unix", "/run/engine.sock")),
        ("engine.sock", Address("unix", "engine.sock")),
        ("tls://gpu1.internal:7433", Address("tls", "gpu1.internal", 7433, 7433)),
        ("tls://[fd00::1]:7433", Address("tls", "fd00::1", 7433, 7433)),
        ("tls://0.0.0.0:7434-7465", Address("tls", "0.0.0.0", 7434, 7465)),
        ("tcp://localhost:1", Address("tcp", "localhost", 1, 1)),
        ("tcp://127.0.0.2:1", Address("tcp", "127.0.0.2", 1, 1)),
        ("tcp://[::1]:1", Address("tcp", "::1", 1, 1)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://gpu1:80", "tls://gpu1", "tls://gpu1:", "tls://:7433", "tls://gpu1:x", "tls://gpu1:99999", "tls://a b:1",
        "tls://gpu1:7433/", "tls://user@gpu1:7433", "tls://gpu1:2-1", "tls://gpu1:1-2-3", "tls://gpu1:-1", "tls://fd00::1:7",
        "tls://gpu1:٣", "tls://gpu1..internal:7433", f"tls://{'a' * 64}:7433", "tls://\udcff:7433",
    ],
)  # fmt: skip
def test_other_texts_are_refused(text: str):
    with pytest.raises(BadRequest):
        parse_address(text)


def test_each_worker_at_a_port_has_an_address_of_its_own():
    address = parse_address("tls://[fd00::1]:7434")
    one, other = new_worker_address(address), new_worker_address(address)
    assert one != other
    assert parse_address(one) == parse_address(other) == address


@pytest.mark.parametrize("host", ["gpu1", "10.0.0.5", "0.0.0.0", "[::]", "localhost.example"])
def test_plain_tcp_stays_on_loopback(host: str):
    with pytest.raises(BadRequest, match="loopback only"):
        parse_address(f"tcp://{host}:7433")


@pytest.mark.parametrize(
    ("text", "control", "reached"),
    [
        ("tls://0.0.0.0:7440", "tls://gpu1:7433", "tls://gpu1:7440"),
        ("tls://[::]:7440", "tls://[fd00::1]:7433", "tls://[fd00::1]:7440"),
        ("tls://0.0.0.0:7440", "tls://0.0.0.0:7433", "tls://localhost:7440"),
        ("tls://gpu2:7440", "tls://gpu1:7433", "tls://gpu2:7440"),
        ("/run/worker-1.sock", "/run/engine.sock", "/run/worker-1.sock"),
    ],
)
def test_a_worker_on_all_addresses_is_reached_where_its_host_is(text: str, control: str, reached: str):
    assert str(parse_address(text).reached_from(parse_address(control))) == reached


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENGINE_SOCKET", "tls://gpu1"), ("ENGINE_SOCKET", "tls://gpu1:0"), ("ENGINE_SOCKET", "tls://gpu1:1-2"),
     ("ENGINE_SOCKET", "tls://gpu1:7433#1"),
     ("ENGINE_SOCKET", "tcp://gpu1:7433"), ("ENGINE_PORTS", "many")],
)  # fmt: skip
def test_a_setting_that_is_not_an_address_is_named(name: str, value: str):
    with pytest.raises(SettingsError, match=f"VLLM_WSGI_{name}={value!r}"):
        Settings.from_env({f"VLLM_WSGI_{name}": value})
