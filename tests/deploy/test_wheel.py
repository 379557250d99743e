"""The wheel, as a stranger installs it: with the extra `gunicorn` alone, beside a Flask application of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.answers import NDJSON, SSE, chat, parse, terminal, text
from tests.support.servers import ROOT, EngineHost, WebProgram, free_port

# Installing from the package index may be slow.

HOST_APPLICATION = """
import os
from flask import Flask
from vllm_wsgi import Settings, create_blueprint

app = Flask(__name__)
settings = Settings(engine_socket=os.environ["ENGINE"])
app.register_blueprint(create_blueprint(settings), url_prefix="/llm")

@app.get("/own")
def own():
    return "ours"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders behind that would be in the next wheel."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "service", copy / "service", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy), cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and gunicorn."""
    directory = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", str(directory / "venv"), cwd=directory)
    python = directory / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", f"{wheel}[gunicorn]", cwd=directory)
    return python


@pytest.fixture
def engine(scratch: Path) -> Iterator[EngineHost]:
    """An engine host of the checkout."""
    host = EngineHost(scratch)
    yield host
    host.stop()


def run(*command: str, cwd: Path) -> str:
    """What a program prints, started without anything that leads to the checkout; fails with what it says."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = [path.relative_to(ROOT / "service") for path in (ROOT / "service").rglob("*") if path.is_file()]
    wanted = {f"vllm_wsgi/{path}" for path in files if "__pycache__" not in path.parts}
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_nothing_in_the_wheel_is_called_service(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vllm_wsgi"}


def test_a_stranger_imports_vllm_wsgi_alone(python: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, json
from vllm_wsgi import Settings, SettingsError, create_blueprint, register_json_errors
names = ["service", "vllm", "torch", "opentelemetry", "gunicorn", "flask"]
print(json.dumps([name for name in names if importlib.util.find_spec(name)]))
"""
    assert json.loads(run(str(python), "-c", code, cwd=tmp_path)) == ["gunicorn", "flask"]


def test_the_command_runs_where_the_wheel_is_installed(python: Path, tmp_path: Path) -> None:
    command = python.with_name("vllm-wsgi")
    assert run(str(command), "--version", cwd=tmp_path).startswith("vllm-wsgi ")
    assert "[keys." in run(str(command), "key", "alice", "--scope", "inference", cwd=tmp_path)


def test_a_host_application_streams_from_an_engine_host_elsewhere(
    python: Path, engine: EngineHost, tmp_path: Path
) -> None:
    (tmp_path / "host.py").write_text(HOST_APPLICATION)
    port = free_port()
    gunicorn = [str(python), "-m", "gunicorn", "-k", "vllm_wsgi.gunicorn.worker.WebWorker", "-b", f"127.0.0.1:{port}"]
    web = WebProgram(
        [*gunicorn, "host:app"], tmp_path, port, {"ENGINE": engine.socket}, prefix="/llm", cwd=tmp_path
    )  # fmt: skip
    web.wait_until_ready()
    for media_type in (NDJSON, SSE):
        answer = httpx.post(f"{web.url}/api/chat", json=chat("one two"), headers={"Accept": media_type}, timeout=120)
        records = parse(answer.content, media_type)
        assert (text(records), [terminal(each) for each in records].count(True)) == ("one two ", 1)
    assert httpx.get(f"http://127.0.0.1:{port}/own").text == "ours"
    web.stop()


def test_the_command_serves_an_engine_host_elsewhere(python: Path, engine: EngineHost, tmp_path: Path) -> None:
    port = free_port()
    command = [str(python.with_name("vllm-wsgi")), "serve", "--port", str(port)]
    web = WebProgram(command, tmp_path, port, {"VLLM_WSGI_ENGINE_SOCKET": engine.socket}, cwd=tmp_path)
    web.wait_until_ready()
    answer = httpx.post(f"{web.url}/api/chat", json=chat("one", stream=False), timeout=120)
    assert answer.json()["message"]["content"] == "one "
    web.stop()
