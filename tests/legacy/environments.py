"""Environments of the matrix: a Python, the wheel of this project, and packages in the versions to try.

An environment is kept in .venv-legacy/ for the next run. It is made again when its packages change, and the wheel is
installed anew in each run. What this machine lacks is a reason to skip, never to fail.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import ROOT

UV = ROOT / ".venv" / "bin" / "uv"
DIRECTORY = ROOT / ".venv-legacy"
# Compiling mod_wsgi takes minutes on a busy machine.
INSTALL_SECONDS = 900
# They have wheels for each Python here; building them takes longer than all tests.
WHEELS_ONLY = ("gevent", "greenlet", "msgspec", "markupsafe")


@dataclass(frozen=True)
class Environment:
    """`python` is a version like 3.9; `packages` are requirements."""

    python: str
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the packages that are tried by name, and of all of them by their hash."""
        told = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join([self.python, *self.packages[:2]]))
        return f"{told}-{hashlib.sha256(repr(self.packages).encode()).hexdigest()[:8]}"

    def make(self, wheel: Path) -> Path:
        """Return its interpreter, with the packages and the wheel installed. Skips the test when there is no Python."""
        directory = DIRECTORY / self.name
        interpreter = directory / "bin" / "python"
        installed = directory / "installed"
        if not installed.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _run(str(UV), "venv", "--quiet", "--python", str(find_python(self.python)), str(directory))
        only = [option for name in WHEELS_ONLY for option in ("--only-binary", name)]
        # Together with the wheel, so that its own requirements are solved with the packages.
        packages = [] if installed.exists() else [*self.packages]
        options = ["--quiet", "--python", str(interpreter), "--reinstall-package", "vllm-wsgi", *only]
        _run(str(UV), "pip", "install", *options, str(wheel), *packages)
        installed.touch()
        return interpreter


def find_python(version: str) -> Path:
    """Return the interpreter of this version, from PATH or from pyenv. Skips the test when there is none."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(versions.glob(f"{version}.*/bin/python")), *map(Path, _on_path(f"python{version}"))]
    for python in found:
        if subprocess.run([python, "-c", "import venv"], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"Python {version} is not installed here")


def _on_path(program: str) -> list[str]:
    found = shutil.which(program)
    return [found] if found else []


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
