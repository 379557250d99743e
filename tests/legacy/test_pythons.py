"""The wheel on each Python and Flask that it promises to run on, with an engine host on the tests' own Python."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.legacy.environments import Environment, find_python
from tests.support.answers import NDJSON, SSE, chat, parse, text
from tests.support.servers import ROOT, EngineHost, WebProgram, free_port

HERE = Path(__file__).parent
# Each Python and each Flask, with the Werkzeug of its time; the oldest and the newest of both together.
PYTHONS = [
    Environment("3.9", ("Flask==2.2.5", "Werkzeug==2.2.3", "msgspec==0.20.0")),
    Environment("3.9", ("Flask==3.1.3", "Werkzeug==3.1.3")),
    Environment("3.10", ("Flask==2.3.3", "Werkzeug==2.3.8")),
    Environment("3.11", ("Flask==2.2.5", "Werkzeug==2.2.3")),
    Environment("3.12", ("Flask==3.0.3", "Werkzeug==3.0.6")),
    Environment("3.13", ("Flask==2.3.3", "Werkzeug==2.3.8")),
    Environment("3.13", ("Flask==3.1.3", "Werkzeug==3.1.3")),
]


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda environment: environment.name)
def python(request: pytest.FixtureRequest, wheel: Path) -> Path:
    environment: Environment = request.param
    return environment.make(wheel)


@pytest.fixture
def host(python: Path, engine: EngineHost, tmp_path: Path) -> Iterator[WebProgram]:
    """The application under Flask's own server."""
    port = free_port()
    command = [str(python), "-m", "flask", "--app", str(HERE / "host.py"), "run", "--port", str(port)]
    env = {"VLLM_WSGI_ENGINE_SOCKET": engine.socket, "PYTHONPATH": ""}
    host = WebProgram(command, tmp_path, port, env, "/llm", tmp_path)
    host.wait_until_ready()
    yield host
    host.stop()


def test_it_streams_in_both_formats(host: WebProgram):
    for accept in (NDJSON, SSE):
        body = chat("!rate:20 a b c <d> é")
        answer = httpx.post(f"{host.url}/api/chat", json=body, headers={"Accept": accept}, timeout=120)
        *records, last = parse(answer.content, accept)
        assert (text(records), last["done"]) == ("a b c <d> é ", True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": "demo", "prompt": "a", "stream": False}),
        ("/api/embed", {"model": "demo", "input": "a"}),
        ("/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "a"}]}),
        ("/v1/responses", {"model": "demo", "input": "a"}),
        ("/v1/messages", {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}),
        ("/api/show", {"model": "demo"}),
    ],
)
def test_every_dialect_answers(host: WebProgram, path: str, body: dict[str, object]):
    answer = httpx.post(host.url + path, json=body, timeout=120)
    assert (answer.status_code, "error" in answer.json()) == (200, False) or answer.json()["error"] is None


def test_a_wrong_body_and_a_wrong_path_get_json(host: WebProgram):
    assert httpx.post(f"{host.url}/api/chat", content=b"{").status_code == 400
    assert "error" in httpx.get(f"{host.url}/api/nothing").json()


def test_every_module_of_the_web_tier_loads(python: Path, tmp_path: Path):
    """Without the engine's, and without those of gunicorn and cryptography, which are not installed here."""
    program = """
import importlib, pkgutil, vllm_wsgi
for found in pkgutil.walk_packages(vllm_wsgi.__path__, "vllm_wsgi."):
    others = "vllm_wsgi.engine.", "vllm_wsgi.gunicorn.", "vllm_wsgi.cli.authority"
    if not found.name.startswith(others) and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
    ran = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


# --- what keeps it so ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checker(wheel: Path) -> Path:
    """Programs that check code for Python 3.9; newer versions of mypy do not know it any more."""
    pinned = [line.split("#")[0].strip() for line in (ROOT / "requirements" / "web.txt").read_text().splitlines()]
    pinned = [requirement for requirement in pinned if requirement]
    # The newest click has syntax that mypy refuses for 3.9.
    return Environment("3.11", ("mypy==1.19.1", "vermin==1.8.0", *pinned, "click==8.1.8", "tomli==2.5.0")).make(wheel)


def web_side() -> list[str]:
    files = [path.relative_to(ROOT) for path in (ROOT / "service").rglob("*.py")]
    return sorted(str(path) for path in files if path.parts[1] != "engine")


def test_the_web_side_needs_nothing_newer_than_python_3_9(checker: Path):
    options = ["--target=3.9-", "--no-tips", "--violations", "--exclude", "tomllib", "-q"]
    vermin = checker.with_name("vermin")
    ran = subprocess.run([vermin, *options, *web_side()], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_mypy_accepts_the_web_side_for_python_3_9(checker: Path):
    options = ["--python-version", "3.9", "--follow-imports", "silent", "--ignore-missing-imports"]
    ran = subprocess.run([checker, "-m", "mypy", *options, *web_side()], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_project_says_what_it_runs_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.9"
    assert "Flask>=2.2,<4" in project["dependencies"]


def test_an_interpreter_that_is_not_here_is_a_reason_to_skip():
    with pytest.raises(pytest.skip.Exception, match=r"Python 3\.99 is not installed here"):
        find_python("3.99")
