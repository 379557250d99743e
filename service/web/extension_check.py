"""The findings of `flask vllm-wsgi check` about the application around the blueprint, each with its cure.

In: an application. Out: findings. It imports no extension: it reads what each one has left in the application.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Flask

from ..cli.finding import Finding
from .framing import NDJSON, SSE


def around(app: Flask, blueprint: Blueprint) -> Iterator[Finding]:
    """Yield a finding for each thing that keeps clients from the routes, or pieces of a stream from its client."""
    yield from _csrf(app, blueprint)
    yield from _compress(app)
    yield from _https(app)


def _csrf(app: Flask, blueprint: Blueprint) -> Iterator[Finding]:
    csrf = app.extensions.get("csrf")
    if csrf is None or not app.config.get("WTF_CSRF_CHECK_DEFAULT", True) or not app.config.get("WTF_CSRF_ENABLED"):
        return
    exempt = blueprint in getattr(csrf, "_exempt_blueprints", ())
    cure = "it refuses each POST of an API client with a 400; call `csrf.exempt(blueprint)`"
    yield Finding("Flask-WTF", exempt, "the blueprint is exempt" if exempt else cure)


def _compress(app: Flask) -> Iterator[Finding]:
    types = app.config.get("COMPRESS_MIMETYPES")
    if types is None:
        return
    ours = sorted({NDJSON.media_type, SSE.media_type}.intersection(types))
    held = bool(ours) and app.config.get("COMPRESS_STREAMS", True)
    cure = f"it holds back the pieces of streams; take {' and '.join(ours)} out of COMPRESS_MIMETYPES"
    yield Finding("Flask-Compress", not held, cure if held else "it leaves streams as they are")


def _https(app: Flask) -> Iterator[Finding]:
    hooks = app.before_request_funcs.get(None, [])
    talisman = next((getattr(each, "__self__", None) for each in hooks if each.__name__ == "_force_https"), None)
    if talisman is None:
        return
    forces = bool(getattr(talisman, "force_https", False))
    found = (
        "it redirects plain HTTP, which API clients do not follow with their body; let them use https" if forces else ""
    )
    yield Finding("Flask-Talisman", True, found or "it redirects nothing")
