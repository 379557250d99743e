"""The units: what systemd says of them, and what their commands tell it. Scripted engine."""

from __future__ import annotations

import configparser
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from service.config import PREFIX, Settings, table
from service.engine.host.supervisor import STOP_SECONDS
from service.gunicorn import conf
from tests.support.answers import chat
from tests.support.servers import ROOT, SCRIPTED, Program, WebProgram, free_port

UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/vllm-wsgi"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they would be if this checkout were installed."""
    for unit in UNITS.glob("*.s[eo]*"):
        # Ray is not installed here, and systemd looks only whether there is a program.
        text = unit.read_text().replace(f"{INSTALLED}/.venv/bin/ray", f"{INSTALLED}/.venv/bin/python")
        (tmp_path / unit.name).write_text(text.replace(INSTALLED, str(ROOT)))
    return tmp_path


def option(unit: str, section: str, name: str) -> str:
    """The last value of a unit's option."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / unit)
    return parser[section][name]


def command(unit: str) -> list[str]:
    """What a service starts, from this checkout."""
    return shlex.split(option(unit, "Service", "ExecStart").replace(INSTALLED, str(ROOT)))


@needs("systemd-analyze")
def test_systemd_finds_no_mistake(units: Path):
    files = [str(unit) for unit in units.iterdir()]
    run = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert len(files) == 5
    assert (run.returncode, [line for line in run.stderr.splitlines() if "vllm-wsgi" in line]) == (0, [])


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", ["vllm-wsgi-engine.service", "vllm-wsgi-web.service"])
def test_systemd_finds_the_sandbox_tight(units: Path, unit: str):
    """A score from 0 to 10; 2 and less are "OK", and most services of a distribution have 9."""
    arguments = ["security", "--offline=true", "--threshold=20", "--no-pager", str(units / unit)]
    run = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_time_outs_are_one_decision():
    """A load balancer's idle time-out < keepalive < graceful_timeout < TimeoutStopSec."""
    assert (
        60 < conf.keepalive < conf.graceful_timeout < int(option("vllm-wsgi-web.service", "Service", "TimeoutStopSec"))
    )


def test_the_engine_hosts_requests_and_its_workers_have_time_to_end():
    """The drain and a worker's SIGKILL < TimeoutStopSec; the drain of the web tier < that of the engine's."""
    stop = int(option("vllm-wsgi-engine.service", "Service", "TimeoutStopSec"))
    assert conf.graceful_timeout <= Settings().drain < Settings().drain + STOP_SECONDS < stop


def test_the_environment_file_explains_every_setting():
    """With the sentence and the default of the table; each line can be uncommented as it is."""
    text = (UNITS / "vllm-wsgi.env").read_text()
    examples = dict(line[1:].split("=", 1) for line in text.splitlines() if line.startswith(f"#{PREFIX}"))
    assert [each.name for each in fields(Settings) if f"\n# {each.metadata['sentence']}" not in text] == []
    assert list(examples) == [each.variable for each in table()]
    assert Settings.from_env({name: "".join(shlex.split(value)) for name, value in examples.items()}) == Settings()


class Notified:
    """systemd's end of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def until(self, line: str, seconds: float = 30) -> list[str]:
        """Every line that comes, up to a message with `line`; raises TimeoutError after so long a silence."""
        self._socket.settimeout(seconds)
        lines: list[str] = []
        while line not in lines:
            lines += self._socket.recv(4096).decode().split("\n")
        return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notified(scratch: Path) -> Iterator[Notified]:
    notified = Notified(scratch / "notify")
    yield notified
    notified.close()


def test_the_engine_host_tells_its_start_its_life_and_its_end(notified: Notified, scratch: Path, tmp_path: Path):
    env = {
        **SCRIPTED,
        "NOTIFY_SOCKET": notified.path,
        "VLLM_WSGI_ENGINE_SOCKET": str(scratch / "engine.sock"),
        "VLLM_WSGI_ENGINE_ARGS": '{"load_seconds": 1.5}',
    }
    host = Program(command("vllm-wsgi-engine.service"), tmp_path, env)
    assert {"STATUS=loading demo:latest", "EXTEND_TIMEOUT_USEC=60000000"} <= set(notified.until("READY=1"))
    assert "demo:latest is loaded" in host.output
    assert notified.until("WATCHDOG=1") == ["WATCHDOG=1"]
    host.stop()
    notified.until("STOPPING=1")


def test_a_host_whose_loop_stands_still_tells_nothing(notified: Notified, scratch: Path, tmp_path: Path):
    env = {**SCRIPTED, "NOTIFY_SOCKET": notified.path, "VLLM_WSGI_ENGINE_SOCKET": str(scratch / "engine.sock")}
    host = Program(command("vllm-wsgi-engine.service"), tmp_path, env)
    notified.until("READY=1")
    host.signal_all(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        notified.until("never", 2)
    host.signal_all(signal.SIGCONT)
    host.stop()


@needs("systemd-socket-activate")
def test_the_web_tier_takes_systemds_socket_and_needs_no_engine(notified: Notified, scratch: Path, tmp_path: Path):
    port = free_port()
    env = {
        "NOTIFY_SOCKET": notified.path,
        "VLLM_WSGI_ENGINE_SOCKET": str(scratch / "engine.sock"),
        # Which must have no effect: systemd holds the port.
        "PORT": str(free_port()),
    }
    gunicorn = [word.replace("/run/vllm-wsgi-web", str(scratch)) for word in command("vllm-wsgi-web.service")]
    passed = [f"--setenv={name}={value}" for name, value in env.items()]
    activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *passed, *gunicorn]
    web = WebProgram(activate, tmp_path, port)
    with httpx.Client(base_url=web.url, timeout=120, transport=httpx.HTTPTransport(retries=5)) as client:
        refused = client.post("/api/chat", json=chat("a"))
    notified.until("READY=1")
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
    web.stop()
