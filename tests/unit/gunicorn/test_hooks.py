from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gevent import GreenletExit

from service.gunicorn import hooks


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def server(*sockets: socket.socket) -> Any:
    """What the hooks need of gunicorn's master."""
    listeners = [SimpleNamespace(sock=each) for each in sockets]
    return SimpleNamespace(log=logging.getLogger("master"), LISTENERS=listeners, cfg=SimpleNamespace(is_ssl=False))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VLLM_WSGI_ENGINE", "scirpted"),
        ("VLLM_WSGI_TRACES", "nonsense"),
        ("VLLM_WSGI_OLLAMA_VERSION", "banana"),
        ("VLLM_WSGI_KEYS", "/nowhere/keys.toml"),
        ("VLLM_WSGI_MODELS", "/nowhere.toml"),
    ],
)
def test_a_mistake_in_the_settings_ends_the_master_with_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        hooks.on_starting(server())
    assert (ended.value.code, variable in caplog.text) == (1, True)


def test_a_listener_for_other_machines_without_keys_ends_the_master(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delenv("VLLM_WSGI_KEYS", raising=False)
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        with pytest.raises(SystemExit) as ended:
            hooks.when_ready(server(everywhere))
    assert (ended.value.code, "VLLM_WSGI_KEYS" in caplog.text) == (1, True)


def test_an_engine_host_that_is_named_is_not_started(listener: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_WSGI_ENGINE_SOCKET", "/nowhere/e.sock")
    master = server(listener)
    hooks.when_ready(master)
    assert not hasattr(master, "engine_host")
    hooks.on_exit(master)


def test_clients_that_vanish_are_given_up(listener: socket.socket):
    hooks.set_tcp_options(server(listener).LISTENERS)
    for (level, option), value in hooks.TCP_OPTIONS.items():
        assert listener.getsockopt(level, option) == value


def test_only_a_tcp_listener_has_an_address_to_announce(listener: socket.socket):
    with socket.socket() as everywhere, socket.socket(socket.AF_UNIX) as unix:
        everywhere.bind(("0.0.0.0", 0))
        assert hooks.tcp_address(server(unix, listener).LISTENERS) == listener.getsockname()
        assert hooks.tcp_address(server(everywhere).LISTENERS) == ("127.0.0.1", everywhere.getsockname()[1])
        assert hooks.tcp_address(server(unix).LISTENERS) is None


def test_the_second_interrupt_ends_a_worker_quietly():
    worker = SimpleNamespace()
    hooks.worker_int(worker)
    with pytest.raises(GreenletExit):
        hooks.worker_int(worker)


def test_garbage_collections_leave_out_what_a_web_worker_made_at_its_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_WSGI_LOG_REQUESTS", "0")
    at_exit = list[Callable[[], None]]()
    monkeypatch.setattr("atexit.register", at_exit.append)
    made = ["at the start"]
    try:
        hooks.post_worker_init(SimpleNamespace())
        assert not any(each is made for each in gc.get_objects())
    finally:
        for each in at_exit:
            each()
    assert any(each is made for each in gc.get_objects())


def test_a_port_that_is_taken_is_said_with_what_to_do(listener: socket.socket):
    address = listener.getsockname()
    listener.listen()
    (sentence,) = hooks.taken(["unix:/nowhere/socket", address])
    assert sentence.startswith(f"another program, perhaps Ollama, listens at 127.0.0.1:{address[1]}: stop that program")
    listener.close()
    assert hooks.taken([address]) == []
