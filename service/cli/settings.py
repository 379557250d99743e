"""`vllm-wsgi settings`: each setting with its value, where the value comes from, and what it does."""

from __future__ import annotations

import os
import textwrap

import click

from ..config import Settings, table
from ..errors import SettingsError

COLUMNS = 100


@click.command()
def settings() -> None:
    """List each setting with its value, its source and its meaning.

    The exit status is 1 when a value is not valid.
    """
    group = None
    for each in table():
        if each.group is not group:
            group = each.group
            click.echo(click.style(f"{group.value.capitalize()}\n", bold=True))
        source = "environment" if each.variable in os.environ else "default"
        click.echo(f"  {each.variable}={os.environ.get(each.variable, each.default)}  ({source})")
        click.echo(f"{textwrap.fill(each.sentence, COLUMNS, initial_indent='      ', subsequent_indent='      ')}\n")
    try:
        Settings.from_env()
    except SettingsError as error:
        raise click.ClickException(error.message) from None
