"""A host application that registers the blueprint, nothing else."""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from service.config import Settings
from service.web.blueprint import create_blueprint, register_json_errors


def create_app(settings: Settings | None = None) -> Flask:
    """The application behind `wsgi.py`; `settings` come from the environment where none are given."""
    settings = settings or Settings.from_env()
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(create_blueprint(settings), url_prefix=settings.prefix or None)
    register_json_errors(app)
    if hops := settings.proxy_hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops)  # type: ignore[method-assign]
    return app
