"""The blueprint: every dialect's routes, and what holds for all of them."""

from __future__ import annotations

from flask import Blueprint, Flask
from werkzeug.exceptions import HTTPException

from ..access.host_header import AllowedHosts
from ..access.keys import Auth
from ..access.origins import AllowedOrigins
from ..config import Settings
from ..dialects.ollama.answer import error_record
from ..engine_client.client import Client
from ..errors import SettingsError
from .guard import Guard
from .http_responses import http_error_response, identified
from .observer import Observer
from .routes.anthropic import AnthropicRoutes
from .routes.ollama import OllamaRoutes
from .routes.openai import OpenAIRoutes
from .routes.operations import OperationsRoutes

ALL_ROUTES = (OllamaRoutes, OpenAIRoutes, AnthropicRoutes, OperationsRoutes)


def create_blueprint(settings: Settings | None = None, name: str = "vllm_wsgi") -> Blueprint:
    """A blueprint with the routes of every dialect, to be registered under any `url_prefix`.

    `settings` come from the environment where none are given. Nothing is connected before the first request, and the
    host application's own routes, error handlers and JSON provider stay as they are. Raises SettingsError where no
    engine host is named, and where the keys can't be read.
    """
    settings = settings or Settings.from_env()
    if not settings.engine_socket:
        raise SettingsError(
            "VLLM_WSGI_ENGINE_SOCKET is empty: start `python -m service.engine.host` and name its control socket, "
            "or start gunicorn with our gunicorn.conf.py, which does both"
        )
    blueprint = Blueprint(name, __name__)
    client = Client(settings.engine_socket, settings.heartbeat, settings.deadline, settings.moves)
    for routes in ALL_ROUTES:
        blueprint.register_blueprint(routes(settings, client).blueprint())
    observer = Observer(settings, client)
    guard = Guard(AllowedOrigins(settings.origins), AllowedHosts(settings.hosts), Auth(settings))
    blueprint.record(guard.registered)
    blueprint.before_request(lambda: observer.opened(guard.route()))
    blueprint.before_request(guard.check)
    blueprint.after_request(observer.report_when_closed)
    blueprint.after_request(guard.add_cors_headers)
    blueprint.after_request(identified)
    return blueprint


def register_json_errors(app: Flask) -> None:
    """Answer in JSON for the paths that no blueprint knows; for an application that has no pages of its own."""
    app.register_error_handler(HTTPException, lambda error: identified(http_error_response(error_record, error)))
