"""The version, which pyproject.toml reads, and the package's own name, under which processes are started."""

from __future__ import annotations

__version__ = "0.1.0"

# Clients of vLLM's server ask it for its version. The web tier follows the API of this one, and runs without vLLM.
VLLM_VERSION = "0.32.0"

_PACKAGE = __package__


def module(name: str) -> str:
    """Return the full name of a module of ours for `python -m`; the package may be imported under any name."""
    return f"{_PACKAGE}.{name}"
