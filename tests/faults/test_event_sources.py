"""Other people's clients of server-sent events, which come back when their web worker goes. Scripted engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers import ROOT, Server, clean_environment
from tests.support.waiting import until

HERE = ROOT / "tests" / "compat"
WORDS = [f"w{number}" for number in range(20)]
# The answer waits behind this word until the web workers are gone.
LAST = 9
PROGRAMS = {
    "eventsource": ["node", str(HERE / "npm" / "follow.mjs"), "eventsource"],
    "event-source-plus": ["node", str(HERE / "npm" / "follow.mjs"), "event-source-plus"],
    "httpx-sse": [sys.executable, str(HERE / "clients" / "follow_httpx_sse.py")],
}


def kill(server: Server) -> None:
    for worker in server.web_workers():
        os.kill(worker, signal.SIGKILL)


def replace(server: Server) -> None:
    """As a deploy does: new web workers come, and the old ones end."""
    workers = server.web_workers()
    os.kill(server.master, signal.SIGHUP)
    until(lambda: not set(workers) & set(server.web_workers()), 120, "the old web workers have ended")


@pytest.mark.parametrize("harm", [kill, replace])
@pytest.mark.parametrize("client", PROGRAMS)
def test_a_client_whose_web_worker_goes_has_the_whole_answer(
    start_server: Callable[..., Server], tmp_path: Path, client: str, harm: Callable[[Server], None]
) -> None:
    if client != "httpx-sse" and (shutil.which("node") is None or not (HERE / "npm" / "node_modules").exists()):
        pytest.skip(f"the npm package {client} is not installed: `make install-dev` does it, where there is npm")
    server = start_server({"WEB_CONCURRENCY": "2", "GUNICORN_CMD_ARGS": "--graceful-timeout 4"})
    gate = tmp_path / "gate"
    script = " ".join([*WORDS[: LAST + 1], f"!until:{gate}", *WORDS[LAST + 1 :]])
    arguments = [*PROGRAMS[client], server.url, script, WORDS[LAST]]
    with subprocess.Popen(arguments, env=clean_environment({}), stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            harm(server)
            gate.touch()
            told = json.loads(program.communicate(timeout=120)[0].splitlines()[-1])
        finally:
            program.kill()
    assert (told["text"], told["ended"]) == (" ".join([*WORDS, ""]), 1)
    assert told["opened"] >= 2
    assert told.get("last", 204) == 204
