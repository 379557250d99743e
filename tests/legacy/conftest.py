"""The wheel and the engine host that all environments of the matrix share. The engine runs on the tests' own Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.legacy.servers import SOME
from tests.support.servers import ROOT, EngineHost


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-servers", action="store_true", help="write docs/reference/servers.md")
    parser.addoption("--some-servers", action="store_true", help="try one server of each kind, as CI does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test time to install its environment, and leave out servers that are not to be tried."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1200))
    if config.getoption("--some-servers"):
        left_out = [item for item in items if not tried(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def tried(item: pytest.Item) -> bool:
    """Return whether a test is about a server of SOME, or about none."""
    callspec = getattr(item, "callspec", None)
    return callspec is None or "server" not in callspec.params or callspec.params["server"].name in SOME


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders behind that would be in the next wheel."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "service", copy / "service", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def engine() -> Iterator[EngineHost]:
    """A scripted engine host; the path of its socket is short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        engine = EngineHost(Path(directory))
        yield engine
        engine.stop()
