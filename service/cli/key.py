"""`vllm-wsgi key`, and `flask vllm-wsgi key`: make an API key."""

from __future__ import annotations

import click

from ..access.new_key import lines, new_key
from ..access.scopes import SCOPE_NAMES


@click.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPE_NAMES),
    help="What the key may do; can be given several times.",
)
def key(name: str, scopes: tuple[str, ...]) -> None:
    """Make an API key that belongs to NAME.

    The lines for keys.toml go to stdout, the key itself to stderr. It is shown only this once: keys.toml holds a hash.
    NAME appears in the request log and in error messages, and each NAME has its own limits.

    \b
    Scopes:
      inference  generate, chat, embed, and OpenAI's and Anthropic's routes
      manage     pull, create, copy and delete models
      observe    /api/status, /api/events and /metrics

    \b
    Example:
      vllm-wsgi key alice --scope inference >> keys.toml
    """
    made = new_key()
    # Apart from the lines, so that `>> keys.toml` takes these and the key stays on the screen.
    click.echo(f"The key, which is shown only this once: {made}", err=True)
    click.echo(lines(name, made, scopes))
