from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from service import Settings, __version__, create_blueprint
from service.access.key_file import KeyFile
from service.cli import processes, serve
from service.cli.command import command
from service.config import table
from service.errors import BadRequest
from service.protocol.events import Loaded
from service.protocol.model_info import EngineState, LeftOutModel, LoadedModel, ModelInfo
from service.transport.address import parse_address
from service.transport.credentials import Credentials, check_credentials
from tests.support.certificates import DAY_SECONDS, certify

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("VLLM_WSGI_") or name in ("HOST", "PORT", "MODEL", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
            monkeypatch.delenv(name)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that this process would have become."""
    programs: list[list[str]] = []
    # A copy, so that what a verb puts into it is gone after the test.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(os, "execv", lambda _, arguments: programs.append(arguments[1:]))
    return programs


def run(*words: str, **variables: str) -> Result:
    return RUNNER.invoke(command, words, env=variables)


@pytest.mark.parametrize("verb", [None, *command.commands])
def test_each_verb_has_a_help_of_sentences(verb: str | None) -> None:
    shown = run(*filter(None, [verb]), "--help").output
    assert shown.startswith("Usage: ")
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_the_version_is_the_packages() -> None:
    assert run("--version").output == f"vllm-wsgi {__version__}\n"


def test_serve_becomes_gunicorn_with_our_settings_and_application(started: list[list[str]]) -> None:
    result = run("serve", "--host", "::1", "--port", "80", "--workers", "2", VLLM_WSGI_ENGINE="scripted")
    assert result.exit_code == 0, result.output
    assert started == [["-m", "gunicorn", "-c", "python:service.gunicorn.conf", "service.web.application:create_app()"]]
    assert [os.environ[name] for name in ("HOST", "PORT", "WEB_CONCURRENCY")] == ["::1", "80", "2"]


def test_a_model_on_the_command_line_beats_the_variable(started: list[list[str]]) -> None:
    os.environ.update(VLLM_WSGI_MODEL="a/b", VLLM_WSGI_ENGINE="scripted")
    assert run("serve", "c/d").exit_code == 0
    assert os.environ["VLLM_WSGI_MODEL"] == "c/d"


def test_options_for_gunicorn_are_added_to_the_operators(started: list[list[str]]) -> None:
    os.environ.update(GUNICORN_CMD_ARGS="--access-logfile -", VLLM_WSGI_ENGINE="scripted")
    assert run("serve", "--gunicorn", "--worker-tmp-dir /run").exit_code == 0
    assert os.environ["GUNICORN_CMD_ARGS"] == "--access-logfile - --worker-tmp-dir /run"


def test_serve_asks_for_a_model_where_there_is_none(started: list[list[str]], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("serve", VLLM_WSGI_ENGINE="scripted")
    assert (result.exit_code, started) == (2, [])
    assert "Name a model" in result.output


@pytest.mark.parametrize(
    ("lacking", "variables", "extra"),
    [("gevent", {"VLLM_WSGI_ENGINE": "scripted"}, "vllm-wsgi[gunicorn]"), ("vllm", {}, "vllm-wsgi[engine]")],
)
def test_serve_says_which_extra_is_missing(
    started: list[list[str]], monkeypatch, lacking: str, variables: dict[str, str], extra: str
) -> None:
    monkeypatch.setattr(processes, "find_spec", lambda name: None if name == lacking else name)
    result = run("serve", **variables)
    assert (result.exit_code, started) == (1, [])
    assert extra in result.output


def test_serve_without_vllm_serves_an_engine_host_that_runs_elsewhere(started: list[list[str]], monkeypatch) -> None:
    monkeypatch.setattr(serve, "require_engine", lambda settings: pytest.fail("no engine is started here"))
    assert run("serve", VLLM_WSGI_ENGINE_SOCKET="/run/e.sock").output == ""
    assert len(started) == 1


@pytest.mark.parametrize("verb", ["serve", "engine", "restart", "check", "settings"])
def test_a_setting_that_can_not_be_used_is_named(verb: str, started: list[list[str]]) -> None:
    result = run(verb, VLLM_WSGI_MAX_QUEUE="many")
    assert (result.exit_code, started) == (1, [])
    assert "VLLM_WSGI_MAX_QUEUE" in result.output


def test_the_engine_host_gets_the_whole_path_of_its_socket(started: list[list[str]]) -> None:
    os.environ["VLLM_WSGI_ENGINE"] = "scripted"
    assert run("engine", "--socket", "e.sock").exit_code == 0
    assert started == [["-m", "service.engine.host"]]
    assert os.environ["VLLM_WSGI_ENGINE_SOCKET"] == os.path.abspath("e.sock")


def test_the_engine_host_needs_a_socket(started: list[list[str]]) -> None:
    assert (run("engine").exit_code, started) == (2, [])


def test_a_key_opens_with_the_lines_that_are_printed(tmp_path: Path) -> None:
    result = run("key", 'a "b"', "--scope", "observe", "--scope", "manage")
    (tmp_path / "keys.toml").write_text(result.stdout)
    key = result.stderr.split()[-1]
    found = KeyFile(Settings(keys=str(tmp_path / "keys.toml"))).find([key])
    assert (found.caller.name, found.scopes) == ('a "b"', {"observe", "manage"})
    assert key not in result.stdout


def test_settings_are_listed_with_value_source_and_sentence() -> None:
    shown = run("settings", VLLM_WSGI_MAX_QUEUE="7").output
    assert "VLLM_WSGI_MAX_QUEUE=7  (environment)" in shown
    assert "VLLM_WSGI_DRAIN=120  (default)" in shown
    assert [each.variable for each in table() if f"  {each.variable}=" not in shown] == []


def test_a_check_finds_what_can_serve() -> None:
    result = run("check", VLLM_WSGI_ENGINE="scripted")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.output.splitlines()] == [
        ["settings", "ok"], ["keys", "ok"], ["models", "ok"], ["engine", "ok"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "row"),
    [
        ("VLLM_WSGI_KEYS", "missing.toml", "keys"),
        ("VLLM_WSGI_MODELS", "missing.toml", "models"),
        ("VLLM_WSGI_ENGINE_SOCKET", "/nowhere/engine.sock", "engine host"),
    ],
)
def test_a_check_fails_where_something_can_not_serve(name: str, value: str, row: str) -> None:
    result = run("check", VLLM_WSGI_ENGINE="scripted", **{name: value})
    assert result.exit_code == 1
    (failed,) = [line for line in result.output.splitlines() if "FAILED" in line]
    assert failed.startswith(row)
    assert value in failed


class AnsweringClient:
    """An engine host with a loaded model, one that is not loaded, and one that can't be served."""

    def __init__(self, socket: str, heartbeat: float, tls: str) -> None:
        assert socket == "/run/e.sock"

    def trouble(self) -> str:
        return ""

    def status(self) -> Loaded:
        ready = LoadedModel(info=ModelInfo(name="a:latest"), state=EngineState.READY, running=3)
        return Loaded(1, [ready], [LeftOutModel("c:latest", "config.json is not JSON")])

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(name="a:latest"), ModelInfo(name="b:latest")]


def test_a_check_lists_the_models_of_the_engine_host_and_fails_for_one_that_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr("service.engine_client.client.Client", AnsweringClient)
    result = run("check", VLLM_WSGI_ENGINE_SOCKET="/run/e.sock")
    rows = [line.split(maxsplit=3) for line in result.output.splitlines() if line.startswith("model ")]
    assert result.exit_code == 1
    assert rows == [
        ["model", "a:latest", "ok", "ready, 3 running, 0 waiting"],
        ["model", "b:latest", "ok", "not loaded; loaded when a client asks for it"],
        ["model", "c:latest", "FAILED", "left out: config.json is not JSON; delete it, or make it anew"],
    ]


class RestartingClient:
    """An engine host that restarts what it is asked to, and refuses to restart a model called `no`."""

    def __init__(self, socket: str, heartbeat: float, tls: str) -> None:
        assert socket == "/run/e.sock"

    def restart(self, model: str, seconds: float | None, may_pause: bool) -> Iterator[str]:
        if model == "no":
            raise BadRequest("no is not loaded")
        yield f"{model or 'all'} {seconds} {may_pause}"


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ([], "all None False\n"),
        (["m", "--wait", "0", "--pause"], "m 0.0 True\n"),
        (["no"], "Error: no is not loaded\n"),
    ],
)
def test_a_restart_prints_what_happens(monkeypatch, words: list[str], output: str) -> None:
    monkeypatch.setattr("service.engine_client.client.Client", RestartingClient)
    result = run("restart", *words, "--socket", "/run/e.sock")
    assert (result.output, result.exit_code) == (output, int("no" in words))


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
def test_a_restart_does_not_wait_for_what_is_no_time(seconds: str) -> None:
    result = run("restart", "--wait", seconds, "--socket", "/run/e.sock")
    assert (result.exit_code, "--wait" in result.output) == (2, True)


def test_a_restart_needs_an_engine_host() -> None:
    result = run("restart", VLLM_WSGI_ENGINE="scripted")
    assert (result.exit_code, "Name the control socket" in result.output) == (2, True)


def test_an_application_with_the_blueprint_has_key_and_check() -> None:
    app = Flask("host")
    app.register_blueprint(create_blueprint(Settings(engine_socket="/nowhere/engine.sock")), url_prefix="/llm")
    runner = app.test_cli_runner()
    checked = runner.invoke(args=["vllm-wsgi", "check"])
    assert (checked.exit_code, "/nowhere/engine.sock" in checked.output) == (1, True)
    assert '[keys."a"]' in runner.invoke(args=["vllm-wsgi", "key", "a", "--scope", "manage"]).output


def test_the_package_is_the_command(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("service", run_name="__main__")
    assert capsys.readouterr().out == f"vllm-wsgi {__version__}\n"


@pytest.mark.parametrize(
    ("seconds", "found"),
    [(100 * DAY_SECONDS + 60, r"ok .* 100 days$"), (9 * DAY_SECONDS + 60, r"ok .* 9 days; renew it now$"),
     (-60, "FAILED .* certificate has expired$")],
    ids=["valid", "expires soon", "expired"],
)  # fmt: skip
def test_a_check_says_when_the_certificate_expires(tmp_path: Path, seconds: float, found: str) -> None:
    directory = certify(tmp_path, ["web1"], engine=False, seconds=seconds)
    result = run("check", VLLM_WSGI_ENGINE="scripted", VLLM_WSGI_TLS=directory)
    (row,) = [line for line in result.output.splitlines() if line.startswith("certificates")]
    assert re.search(found, row), row
    assert result.exit_code == (seconds < 0)


def test_certificates_are_made_and_renewed_with_one_ca(tmp_path: Path) -> None:
    machines = [tmp_path / name for name in ("gpu1", "web1")]
    made = run("certificates", str(tmp_path), "--engine", "gpu1,10.0.0.5", "--web", "web1")
    assert made.exit_code == 0, made.output
    before = [(machine / "certificate.pem").read_text() for machine in machines]
    assert run("certificates", str(tmp_path), "--web", "web1", "--days", "9").exit_code == 0
    assert [
        (machine / "certificate.pem").read_text() == old for machine, old in zip(machines, before, strict=True)
    ] == [True, False]
    assert (machines[0] / "ca.pem").read_text() == (machines[1] / "ca.pem").read_text()
    for machine in machines:
        check_credentials(parse_address("tls://gpu1:7433"), str(machine))
    assert run("certificates", str(tmp_path), "--engine", "gpu2.internal.").exit_code == 0
    Credentials(str(tmp_path / "gpu2.internal.")).check_server("gpu2.internal")
    modes = {file.stat().st_mode & 0o777 for file in tmp_path.rglob("*.pem")}
    assert modes == {0o600}


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "Name the machines"), (("--web", "../x"), "not a name"), (("--web", "ca"), "not a name"),
     (("--engine", "gpu1,"), "not a name"), (("--engine", "gpü1"), "can't be used"),
     (("--engine", "gpu1,10.0.0.5", "--web", "gpu1"), "'gpu1' is named twice")],
)  # fmt: skip
def test_names_that_can_not_be_certified_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = run("certificates", str(tmp_path / "pki"), *words)
    assert result.exit_code != 0
    assert message in result.output


def test_certificates_say_which_package_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.processes.find_spec", lambda name: None)
    result = run("certificates", str(tmp_path), "--web", "web1")
    assert result.output == (
        "Error: cryptography is not installed. Run: pip install 'vllm-wsgi[cluster]', or in a checkout: make install\n"
    )
