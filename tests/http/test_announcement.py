"""The lines to paste once a model answers: printed once, by a web worker. Scripted engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

LINE = "demo answers. Try it"


def has_announced(server: Server) -> bool:
    return LINE in server.output


def test_several_web_workers_announce_a_model_once(start_server: Callable[..., Server]):
    server = start_server({"WEB_CONCURRENCY": "2"})
    until(lambda: has_announced(server), 120, "a web worker announces the model")
    before = server.web_workers()
    os.kill(server.master, signal.SIGHUP)
    until(lambda: not set(before) & set(server.web_workers()), 120, "the web workers are others")
    assert httpx.get(f"{server.url}/api/version", timeout=60).status_code == 200
    assert server.output.count(LINE) == 1
    assert server.url in server.output


def test_a_web_worker_that_is_killed_leaves_the_announcement_to_the_next(tmp_path: Path):
    server = Server(tmp_path, SCRIPTED)
    until(server.web_workers, 120, "there is a web worker")
    os.kill(server.web_workers()[0], signal.SIGKILL)
    try:
        until(lambda: has_announced(server), 120, "a web worker announces the model")
        assert server.output.count(LINE) == 1
    finally:
        server.stop()


def test_the_master_forks_with_no_thread_but_the_one_that_keeps_the_engine_host(start_server: Callable[..., Server]):
    """A lock that another thread holds at a fork is never free in the new web worker, which then answers nobody."""
    server = start_server()
    until(lambda: has_announced(server), 120, "a web worker announces the model")
    assert psutil.Process(server.master).num_threads() == 2
