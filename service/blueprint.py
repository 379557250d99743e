"""The blueprint: every dialect's routes, and what holds for all of them."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from . import ollama
from .auth import KEY, ROUTES, Auth, received
from .chronicle import Chronicle
from .client import Client
from .config import Settings, SettingsError
from .errors import Refused
from .health import refuse_while_draining
from .hosts import Hosts
from .origins import PREFLIGHT_HEADERS, PREFLIGHT_VARY, Origins
from .routes import empty_response, http_error_response, identified
from .routes_anthropic import AnthropicRoutes
from .routes_ollama import OllamaRoutes
from .routes_openai import OpenAIRoutes
from .routes_operations import OperationsRoutes

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
    client = Client(settings.engine_socket, settings.heartbeat, settings.deadline)
    for routes in ALL_ROUTES:
        blueprint.register_blueprint(routes(settings, client).blueprint())
    chronicle = Chronicle(settings, client)
    guard = Guard(Origins(settings.origins), Hosts(settings.hosts), Auth(settings))
    blueprint.record(guard.registered)
    blueprint.before_request(lambda: chronicle.begin(guard.route()))
    blueprint.before_request(guard.check)
    blueprint.after_request(chronicle.attend)
    blueprint.after_request(guard.tell)
    blueprint.after_request(identified)
    return blueprint


class Guard:
    """Refuses foreign pages and hosts, in Ollama's order, answers preflights, and asks for a key.

    Browsers are told what is allowed. Work that comes when this process has been told to end is refused.
    """

    def __init__(self, origins: Origins, hosts: Hosts, auth: Auth) -> None:
        self._origins = origins
        self._hosts = hosts
        self._auth = auth
        self._routes: dict[str, str] = {}

    def registered(self, state: BlueprintSetupState) -> None:
        """The application's rules have its prefix before our paths."""
        prefix = (state.url_prefix or "").rstrip("/")
        self._routes |= {f"{prefix}{path}": path for path in ROUTES}

    def route(self) -> str:
        """The current request's, as ROUTES names it; empty where it does not."""
        rule = request.url_rule
        return self._routes.get(rule.rule, "") if rule else ""

    def check(self) -> Response | None:
        answer = self._check_origin() or self._check_host()
        if answer is None:
            route = self.route()
            request.environ[KEY] = self._auth.admit(request.environ, route)
            if ROUTES.get(route) in ("inference", "manage"):
                refuse_while_draining()
        return answer

    def _check_origin(self) -> Response | None:
        origin = request.headers.get("Origin", "")
        if not self._origins.foreign(origin, request.host):
            return None
        if not self._origins.allows(origin):
            raise Refused(f"origin {origin} is not allowed; VLLM_WSGI_ORIGINS can allow it", status=403)
        if request.method != "OPTIONS":
            return None
        preflight = empty_response(204, PREFLIGHT_HEADERS)
        preflight.vary.update(PREFLIGHT_VARY)
        return preflight

    def _check_host(self) -> Response | None:
        host = request.headers.get("Host", "")
        if not self._hosts.watches(received(request.environ)["SERVER_NAME"]):
            return None
        if not self._hosts.allows(host):
            raise Refused(f"host {host} is not allowed; VLLM_WSGI_HOSTS can allow it", status=403)
        if request.method == "OPTIONS" and self._hosts.named(host):
            return empty_response(204)
        return None

    def tell(self, response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        if self._origins.foreign(origin, request.host) and self._origins.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self._origins.all else origin
            if not self._origins.all:
                response.vary.add("Origin")
        return response


def register_json_errors(app: Flask) -> None:
    """Answer in JSON for the paths that no blueprint knows; for an application that has no pages of its own."""
    app.register_error_handler(HTTPException, lambda error: identified(http_error_response(ollama.error_record, error)))
