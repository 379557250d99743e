"""The steps that `serve` and `engine` share: find the libraries that they need, and become another program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NoReturn

import click

from ..config import Settings
from ..errors import SettingsError


@contextmanager
def mistakes_reported() -> Iterator[None]:
    """Report a SettingsError in one line, with exit status 1."""
    try:
        yield
    except SettingsError as error:
        raise click.ClickException(error.message) from None


def require(module: str, extra: str) -> None:
    """Raise a ClickException when a library is not installed."""
    if find_spec(module) is None:
        raise click.ClickException(
            f"{module} is not installed. Run: pip install 'vllm-wsgi[{extra}]', or in a checkout: make install"
        )


def require_engine(settings: Settings) -> None:
    """Raise a ClickException when these settings need vLLM, and vLLM is not installed."""
    if settings.engine == "vllm":
        require("vllm", "engine")


def become(*arguments: str) -> NoReturn:
    """Replace this process by `python -m ARGUMENTS`; signals and systemd's notifications then reach that program."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *arguments])
