"""`wsgi:app` with one more route: how many greenlets its web worker has."""

from __future__ import annotations

import gc

from flask import Flask
from greenlet import greenlet

from app import create_app


def create_watched_app() -> Flask:
    app = create_app()
    app.add_url_rule("/watched/greenlets", view_func=count_greenlets)
    return app


def count_greenlets() -> str:
    """Those that have begun and not ended."""
    gc.collect()
    return str(sum(1 for each in gc.get_objects() if isinstance(each, greenlet) and each))
