"""The engine host takes no place that is somebody else's, and says what to do where it can't listen. Real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import SCRIPTED, EngineHost, clean_environment
from tests.support.waiting import until


def said(address: str | Path) -> tuple[int, str]:
    """The exit status and the output of an engine host that should not start."""
    env = clean_environment({**SCRIPTED, "VLLM_WSGI_ENGINE_SOCKET": str(address)})
    command = [sys.executable, "-m", "service.engine.host"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stderr


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path):
    file = tmp_path / "models.toml"
    file.write_text("mine")
    status, output = said(file)
    assert (status, file.read_text()) == (1, "mine")
    assert f"{file} is not a socket: name a path that does not exist yet" in output


def test_a_second_engine_host_does_not_take_the_socket_of_the_first(scratch: Path):
    host = EngineHost(scratch)
    try:
        until(lambda: Path(host.socket).exists(), 120, "the first listens")
        status, output = said(host.socket)
        assert (status, "end it first, or name another socket" in output) == (1, True)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(host.socket)
    finally:
        host.stop()
    assert not Path(host.socket).exists()


def test_a_socket_that_nobody_listens_at_is_replaced(scratch: Path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(scratch / "engine.sock"))
    host = EngineHost(scratch)
    try:
        until(lambda: "is loaded" in host.output, 120, "the host has loaded its model")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(host.socket)
            assert client.getpeername() == host.socket
    finally:
        host.stop()


def test_the_socket_of_another_host_is_not_removed_at_the_end(scratch: Path):
    host = EngineHost(scratch)
    until(lambda: Path(host.socket).exists(), 120, "the host listens")
    os.unlink(host.socket)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(host.socket)
        host.stop()
        assert Path(host.socket).exists()


@pytest.mark.parametrize("name", ["nowhere/engine.sock", "e" * 120])
def test_a_place_where_nobody_can_listen_is_one_line_that_says_what_to_do(name: str, tmp_path: Path):
    status, output = said(tmp_path / name)
    assert (status, len(output.strip().splitlines())) == (1, 1)
    assert output.startswith(f"engine host: VLLM_WSGI_ENGINE_SOCKET={tmp_path / name}: ")


def test_a_port_that_is_taken_is_one_line_too(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, output = said(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert (status, "name another port" in output, "Traceback" in output) == (1, True, False)
