"""`vllm-wsgi certificates`: a CA and the certificates of web and engine machines, for a first set-up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from .processes import require

# A year and a month. Some auditors refuse longer ones.
DAYS = 397


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAMES",
    help="An engine host: the names and IP addresses under which web machines reach it, in a comma list.",
)
@click.option("--web", "webs", multiple=True, metavar="NAME", help="A web machine; any name.")
@click.option("--days", default=DAYS, show_default=True, type=click.IntRange(1), help="How long they are valid.")
def certificates(directory: Path, engines: tuple[str, ...], webs: tuple[str, ...], days: int) -> None:
    """Make certificates for separate web and engine machines in DIRECTORY.

    The first run makes the CA in DIRECTORY/ca; later runs use it, to add a machine or to renew a certificate. Each
    machine gets a directory with its name. Copy it there, name it in VLLM_WSGI_TLS, and let only the service's user
    read it. Whoever has DIRECTORY/ca/key.pem can admit machines, so keep it on neither of them.

    \b
    Example:
      vllm-wsgi certificates pki --engine gpu1.internal,10.0.0.5 --web web1
    """
    if not engines and not webs:
        raise click.UsageError("Name the machines: --engine gpu1.internal,10.0.0.5, --web web1")
    require("cryptography", "cluster")
    from .authority import Authority

    machines = [(names.split(","), True) for names in engines] + [([name], False) for name in webs]
    for names, _ in machines:
        if not all(names) or names[0] == "ca" or any(mark in names[0] for mark in "/\0") or names[0].startswith("."):
            raise click.UsageError(f"{','.join(names)!r} is not a name of a machine")
    if twice := next((name for name, count in Counter(names[0] for names, _ in machines).items() if count > 1), ""):
        # An engine host's certificate is also one of a web machine.
        raise click.UsageError(f"{twice!r} is named twice, and each machine has one directory")
    try:
        authority = Authority.at(directory / "ca")
        for names, is_engine in machines:
            authority.certify(directory / names[0], names, is_engine, days)
            click.echo(f"{directory / names[0]}: {'an engine host' if is_engine else 'a web machine'}, {days} days")
    except ValueError as error:
        raise click.ClickException(f"a name or a file can't be used: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
