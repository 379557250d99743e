"""Tasks of Celery and of RQ ask the engine without a request, in the forked children of their own workers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.legacy.environments import Environment
from tests.support.servers import ROOT, EngineHost, Program
from tests.support.waiting import PATIENCE_SECONDS, until

TASKS = ROOT / "tests" / "apps" / "legacy" / "tasks.py"
ENVIRONMENT = Environment("3.10", ("Flask==2.3.3", "Werkzeug==2.3.8", "celery==5.7.0", "rq==3.0.0", "redis==8.1.0"))

# Both workers import what they run in each child, which a busy machine takes long for.
ANSWER_SECONDS = 3 * PATIENCE_SECONDS


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    return ENVIRONMENT.make(wheel)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "queue").mkdir()
    shutil.copy(TASKS, tmp_path)
    return tmp_path


@pytest.fixture
def env(engine: EngineHost, directory: Path) -> Iterator[dict[str, str]]:
    """The path of Redis' socket is short enough for sockets."""
    with tempfile.TemporaryDirectory() as short:
        yield {
            "ENGINE": engine.socket, "REDIS": f"{short}/redis.sock", "PYTHONPATH": str(directory),
            "HOME": str(directory), "C_FORCE_ROOT": "1",
        }  # fmt: skip


@pytest.fixture
def celery(python: Path, directory: Path, env: dict[str, str]) -> Iterator[Program]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [
        str(python),
        "-m",
        "celery",
        "-A",
        "tasks.celery",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "1",
        *quiet,
    ]
    worker = Program(command, directory, env, directory)
    yield worker
    worker.stop()


@pytest.fixture
def redis(directory: Path, env: dict[str, str]) -> Iterator[Program]:
    """A Redis server on a socket of its own, in memory alone."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed here")
    options = ["--port", "0", "--unixsocket", env["REDIS"], "--save", "", "--daemonize", "no"]
    server = Program([program, *options], directory, env, directory)
    until(Path(env["REDIS"]).exists, PATIENCE_SECONDS, "Redis listens", ended(server))
    yield server
    server.stop()


def answers(python: Path, directory: Path, env: dict[str, str], function: str, server: Program) -> list[str]:
    """Return what a task of each text ends with; `server` runs the tasks, or holds their queue."""
    asking = Program([str(python), "tasks.py", function, "a b c", "!refuse:no"], directory, env, directory)
    try:
        until(asking.ended, ANSWER_SECONDS, "the tasks have ended", ended(server))
        return asking.output.splitlines()[-2:]
    finally:
        asking.stop()


def ended(program: Program) -> Callable[[], str]:
    """Return an `unless` for waits that need the program."""
    return lambda: f"a program has ended:\n{program.output[-3000:]}" if program.ended() else ""


def test_celery_tasks_ask_the_engine(python: Path, directory: Path, env: dict[str, str], celery: Program):
    assert answers(python, directory, env, "answers_of_celery", celery) == ["str: a b c ", "BadRequest: no"]


def test_rq_jobs_ask_the_engine(python: Path, directory: Path, env: dict[str, str], redis: Program):
    expected = ["str: a b c ", "str: vllm_wsgi.errors.BadRequest: no"]
    assert answers(python, directory, env, "answers_of_rq", redis) == expected
