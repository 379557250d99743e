"""The access rules as verbs, which the blueprint calls in order before a view runs.

In: the current request and its Context. Out: nothing, an answer to a browser's OPTIONS, or a raised error.
It never knows a dialect or the engine.
"""

from __future__ import annotations

from flask import Response, request

from ..access.addresses import received
from ..access.host_header import AllowedHosts
from ..access.keys import Auth
from ..access.origins import EXPOSED_HEADERS, PREFLIGHT_HEADERS, PREFLIGHT_VARY, AllowedOrigins, allowed_headers
from ..access.scopes import Scope
from ..config import Settings
from ..drain import refuse_while_draining
from ..errors import Forbidden, HTTPRefusal
from .context import Context
from .http_responses import empty_response
from .route import Fallback, LinkedRoute, Route


class Guard:
    """Refuses foreign pages and hosts in Ollama's order, then unknown keys and keys without the route's scope.

    Raises SettingsError when the keys can't be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._origins = AllowedOrigins(settings.origins)
        self._hosts = AllowedHosts(settings.hosts)
        self._auth = Auth(settings)
        self._open_discovery = settings.open_discovery

    def check_origin(self) -> Response | None:
        """Return the answer to an allowed page's preflight. Raise HTTPRefusal (403) for a page that is not allowed."""
        origin = request.environ.get("HTTP_ORIGIN", "")
        if not origin or not self._origins.foreign(origin, request.host):
            return None
        if not self._origins.allows(origin):
            raise HTTPRefusal(f"origin {origin} is not allowed; VLLM_WSGI_ORIGINS can allow it", status=403)
        if request.method != "OPTIONS":
            return None
        headers = allowed_headers(request.headers.get("Access-Control-Request-Headers", ""))
        preflight = empty_response(204, PREFLIGHT_HEADERS | {"Access-Control-Allow-Headers": headers})
        preflight.vary.update(PREFLIGHT_VARY)
        return preflight

    def check_host(self) -> Response | None:
        """Return the answer to OPTIONS for a host's name.

        Raise HTTPRefusal (403) for a host that is not allowed, and for a missing header (400, RFC 9112 §3.2).
        """
        environ = request.environ
        if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
            raise HTTPRefusal("HTTP/1.1 requires a Host header", status=400)
        if not self._hosts.watches(received(environ)["SERVER_NAME"]):
            return None
        host = environ.get("HTTP_HOST", "")
        if not self._hosts.allows(host):
            raise HTTPRefusal(f"host {host} is not allowed; VLLM_WSGI_HOSTS can allow it", status=403)
        if request.method == "OPTIONS" and self._hosts.named(host):
            return empty_response(204)
        return None

    def identify(self, context: Context) -> None:
        """Set the context's key to the one that the request presents. Raises Unauthorized (401).

        A link to a stream stands for a key. Raises ResponseNotFound (404) for one that is expired or not genuine.
        """
        if isinstance(context.route, LinkedRoute) and (token := request.args.get("t", "")):
            stream = (request.view_args or {}).get("id", "")
            context.key = self._auth.identify_link(request.environ, token, stream)
        elif not self._is_open(context.route):
            context.key = self._auth.identify(request.environ)

    def authorize(self, context: Context) -> None:
        """Raise Forbidden (403) when the context's key may not use its route."""
        if context.route is None:
            raise Forbidden("this path is not declared as a route, so no key opens it")
        if not self._is_open(context.route):
            self._auth.authorize(context.key, context.route.scope, request.environ)

    def refuse_while_draining(self, context: Context) -> None:
        """Raise Unavailable (503) for work that comes after this process was asked to end."""
        if isinstance(context.route, LinkedRoute):
            return
        if context.route is not None and context.route.scope in (Scope.INFERENCE, Scope.MANAGE):
            refuse_while_draining()

    def add_cors_headers(self, response: Response) -> Response:
        """Let the browser show the answer to an allowed page."""
        origin = request.environ.get("HTTP_ORIGIN", "")
        if origin and self._origins.foreign(origin, request.host) and self._origins.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self._origins.all else origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            if not self._origins.all:
                response.vary.add("Origin")
        return response

    def _is_open(self, route: Route | None) -> bool:
        """Return whether a route asks for no key. The routes that any key opens show which models there are."""
        if route is None:
            return False
        is_discovery = route.scope is Scope.ANY and not isinstance(route, Fallback)
        return route.scope is Scope.OPEN or (is_discovery and self._open_discovery)
