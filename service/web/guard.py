"""Flask hooks that refuse a request before its view runs."""

from __future__ import annotations

from flask import Response, request
from flask.blueprints import BlueprintSetupState

from ..access.addresses import received
from ..access.host_header import AllowedHosts
from ..access.keys import ROUTES, Auth
from ..access.origins import PREFLIGHT_HEADERS, PREFLIGHT_VARY, AllowedOrigins
from ..drain import refuse_while_draining
from ..errors import HTTPRefusal
from .context import KEY
from .http_responses import empty_response


class Guard:
    """Refuses foreign pages and hosts, in Ollama's order, answers preflights, and asks for a key.

    Browsers are told what is allowed. Work that comes when this process has been told to end is refused.
    """

    def __init__(self, origins: AllowedOrigins, hosts: AllowedHosts, auth: Auth) -> None:
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
            raise HTTPRefusal(f"origin {origin} is not allowed; VLLM_WSGI_ORIGINS can allow it", status=403)
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
            raise HTTPRefusal(f"host {host} is not allowed; VLLM_WSGI_HOSTS can allow it", status=403)
        if request.method == "OPTIONS" and self._hosts.named(host):
            return empty_response(204)
        return None

    def add_cors_headers(self, response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        if self._origins.foreign(origin, request.host) and self._origins.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self._origins.all else origin
            if not self._origins.all:
                response.vary.add("Origin")
        return response
