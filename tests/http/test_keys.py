"""A server that asks for keys, and one that does not start without them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.access.scopes import SCOPE_NAMES
from tests.support.keys import table
from tests.support.servers import ROOT, SCRIPTED, Server, clean_environment, free_port


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"HOST": "0.0.0.0"}, "listening on 0.0.0.0 without keys would let anyone in"),
        ({"VLLM_WSGI_KEYS": "/nowhere/keys.toml"}, "VLLM_WSGI_KEYS=/nowhere/keys.toml can't be read"),
    ],
)
def test_gunicorn_does_not_start_and_says_why(env: dict[str, str], sentence: str):
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    env = clean_environment({"PORT": str(free_port()), "VLLM_WSGI_ENGINE": "scripted", **env})
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_gunicorn_refuses_a_socket_that_is_handed_over_where_others_reach_it():
    with socket.create_server(("0.0.0.0", 0)) as listener:
        bound = f"--bind=fd://{listener.fileno()}"
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", bound, "wsgi:app"]
        run = subprocess.run(
            command, cwd=ROOT, env=clean_environment(SCRIPTED), pass_fds=[listener.fileno()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert run.returncode == 1
    assert "listening on 0.0.0.0 without keys would let anyone in" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_server_asks_for_its_keys(start_server: Callable[..., Server], tmp_path: Path):
    keys = tmp_path / "keys.toml"
    keys.write_text(table("all", *SCOPE_NAMES))
    server = start_server({"VLLM_WSGI_KEYS": str(keys)}, key="all")
    assert server.status()["state"] == "ready"
    server.headers = {}
    assert server.status() == {}
