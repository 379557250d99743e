"""The modules of the package, parsed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import service

PACKAGE = Path(service.__file__).parent
# Each module by its path inside the package: "engine/host/host"; a package by its folder.
MODULES = {
    (path.parent if path.name == "__init__.py" else path.with_suffix("")).relative_to(PACKAGE).as_posix(): ast.parse(
        path.read_text()
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}
PACKAGES = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py"))


def within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}/")


def fresh(code: str) -> list[str]:
    """What `code` prints as JSON, in an interpreter that has imported nothing."""
    command = [sys.executable, "-c", f"import json, sys\n{code}"]
    run = subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)
