"""Certificates for tests: of one CA, of another one, expired, and for a moment."""

from __future__ import annotations

from pathlib import Path

DAY_SECONDS = 24 * 3600


def certify(directory: Path, names: list[str], *, engine: bool, seconds: float = DAY_SECONDS, ca: str = "ca") -> str:
    """Return a new directory of certificates for a machine. Negative `seconds` (down to -600) give an expired one."""
    from service.cli.authority import Authority

    machine = directory / f"{names[0]}-{len(list(directory.glob('*')))}"
    Authority.at(directory / ca).certify(machine, names, engine, seconds / DAY_SECONDS)
    return str(machine)
