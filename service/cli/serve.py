"""`vllm-wsgi serve`: gunicorn with our settings and our application, and an engine host unless one runs already."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..config import Settings
from ..version import module
from .processes import become, mistakes_reported, require, require_engine

# Any of these names what is served.
_CHOICES = ("VLLM_WSGI_MODEL", "VLLM_WSGI_MODELS", "VLLM_WSGI_ENGINE_SOCKET", "MODEL")


@click.command()
@click.argument("model", required=False)
@click.option("--host", envvar="HOST", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", envvar="PORT", default=11434, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--workers", envvar="WEB_CONCURRENCY", default=1, show_default=True, type=click.IntRange(1), help="Web workers."
)
@click.option("--gunicorn", "options", metavar="OPTIONS", help="More options for gunicorn: '--certfile cert.pem …'.")
def serve(model: str | None, host: str, port: int, workers: int, options: str | None) -> None:
    """Serve MODEL over HTTP until Ctrl-C.

    MODEL is a local directory or a Hugging Face repository. Without MODEL, the settings name what is served:
    VLLM_WSGI_MODEL, or VLLM_WSGI_MODELS for several models. When VLLM_WSGI_ENGINE_SOCKET names an engine host that
    runs already, that one is used; otherwise an engine host is started.

    \b
    Examples:
      vllm-wsgi serve Qwen/Qwen3-8B
      vllm-wsgi serve /srv/models/my-model --port 8080
      VLLM_WSGI_MODELS=models.toml vllm-wsgi serve --host 0.0.0.0 --workers 2
    """
    if model:
        os.environ["VLLM_WSGI_MODEL"] = model
    with mistakes_reported():
        settings = Settings.from_env()
    check_model(settings)
    require("gunicorn", "gunicorn")
    require("gevent", "gunicorn")
    if not settings.engine_socket:
        require_engine(settings)
        click.echo("Starting. The model is loaded next.")
    os.environ.update(HOST=host, PORT=str(port), WEB_CONCURRENCY=str(workers))
    if options:
        os.environ["GUNICORN_CMD_ARGS"] = f"{os.environ.get('GUNICORN_CMD_ARGS', '')} {options}".strip()
    become("gunicorn", "-c", f"python:{module('gunicorn.conf')}", f"{module('web.application')}:create_app()")


def check_model(settings: Settings) -> None:
    """Raise a UsageError when no model is named and the demo model is not here."""
    if not any(os.environ.get(name) for name in _CHOICES) and not Path(settings.model).is_dir():
        raise click.UsageError("Name a model: set VLLM_WSGI_MODEL to Qwen/Qwen3-8B, say, or to a model's directory")
