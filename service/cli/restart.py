"""`vllm-wsgi restart`: replace the engine workers of a model, one after the other."""

from __future__ import annotations

import math

import click

from ..config import Settings
from ..errors import ServiceError
from .processes import mistakes_reported

# How often an empty batch comes while the host reports nothing, so that Ctrl-C ends the wait.
HEARTBEAT_SECONDS = 1.0


@click.command()
@click.argument("model", required=False)
@click.option("--wait", metavar="SECONDS", type=click.FloatRange(0), help="[default: VLLM_WSGI_DRAIN of the host]")
@click.option("--pause", is_flag=True, help="Restart a model that can't serve meanwhile, too.")
@click.option("--socket", metavar="PATH", help="The host's control socket.  [default: VLLM_WSGI_ENGINE_SOCKET]")
def restart(model: str | None, wait: float | None, pause: bool, socket: str | None) -> None:
    """Restart the engine workers of MODEL, one after the other.

    Without MODEL: of every loaded model. An engine worker gets no new requests; those that run have SECONDS to
    end, and the rest moves to another replica of the model and continues there. The next engine worker follows
    when the new one is ready. New workers run what is installed by then: code, vLLM, weights.

    The exit status is 1 when a restart is refused or has failed. Ctrl-C ends it; an engine worker that was
    already asked to end is still replaced.

    \b
    Examples:
      vllm-wsgi restart
      vllm-wsgi restart demo --wait 0
    """
    if wait is not None and math.isnan(wait):
        # For FloatRange it is in every range.
        raise click.BadParameter("nan is not a number of seconds", param_hint="--wait")
    with mistakes_reported():
        settings = Settings.from_env()
    path = socket or settings.engine_socket
    if not path:
        raise click.UsageError("Name the control socket: --socket PATH, or VLLM_WSGI_ENGINE_SOCKET")
    from ..engine_client.client import Client

    try:
        for sentence in Client(path, HEARTBEAT_SECONDS, tls=settings.tls).restart(model or "", wait, pause):
            click.echo(sentence)
    except ServiceError as error:
        raise click.ClickException(error.message) from None
