"""`vllm-wsgi engine`: the engine host alone, for web tiers that run elsewhere."""

from __future__ import annotations

import os

import click

from ..config import Settings
from ..version import module
from .processes import become, mistakes_reported, require_engine
from .serve import check_model


@click.command()
@click.option(
    "--socket", metavar="ADDRESS", help="A path or tls://host:port to listen on.  [default: VLLM_WSGI_ENGINE_SOCKET]"
)
def engine(socket: str | None) -> None:
    """Run the engine host until SIGTERM or Ctrl-C.

    The engine host loads the models and starts their engine workers. Web tiers reach it when their
    VLLM_WSGI_ENGINE_SOCKET names its control socket. Whoever may open the socket's directory may use the models.

    \b
    Example:
      export VLLM_WSGI_MODEL=Qwen/Qwen3-8B
      vllm-wsgi engine --socket /run/vllm-wsgi/engine.sock
    """
    if socket:
        os.environ["VLLM_WSGI_ENGINE_SOCKET"] = socket if "://" in socket else os.path.abspath(socket)
    with mistakes_reported():
        settings = Settings.from_env()
    if not settings.engine_socket:
        raise click.UsageError("Name the control socket: --socket PATH, or VLLM_WSGI_ENGINE_SOCKET")
    check_model(settings)
    require_engine(settings)
    become(module("engine.host"))
