"""The group of all verbs, as the console script, `python -m` and a checkout's .venv/bin/vllm-wsgi run it."""

from __future__ import annotations

import click

from ..version import __version__
from .certificates import certificates
from .check import check_environment
from .engine import engine
from .key import key
from .restart import restart
from .serve import serve
from .settings import settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vllm-wsgi", message="%(prog)s %(version)s")
def command() -> None:
    """Ollama's HTTP API on vLLM, for WSGI stacks.

    Settings come from VLLM_WSGI_* variables; `vllm-wsgi settings` lists them.
    """


for verb in (serve, engine, restart, key, certificates, check_environment, settings):
    command.add_command(verb)


def main() -> None:
    """Run the command line of this process."""
    command(prog_name="vllm-wsgi")
