"""An application that serves our routes and nothing else, for operators without a Flask application.

In: Settings. Out: a Flask application. Under gunicorn: `"vllm_wsgi.web.application:create_app()"`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from ..config import Settings
from .blueprint import create_blueprint, register_json_errors

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; without `settings` they are read from the environment. Raises SettingsError."""
    settings = settings or Settings.from_env()
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(create_blueprint(settings), url_prefix=settings.prefix or None)
    register_json_errors(app)
    if hops := settings.proxy_hops:
        inner = with_one_slash(app.wsgi_app)
        app.wsgi_app = ProxyFix(inner, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops)  # type: ignore[method-assign]
    return app


def with_one_slash(application: WSGIApplication) -> WSGIApplication:
    """Return the application with one slash before its prefix: a link that begins with two leads to another host."""

    def prefixed(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        prefix = environ.get("SCRIPT_NAME", "")
        environ["SCRIPT_NAME"] = f"/{prefix.lstrip('/')}" if prefix.strip("/") else ""
        return application(environ, start_response)

    return prefixed
