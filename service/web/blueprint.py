"""The blueprint: every dialect's routes, and the hooks that run for all of them."""

from __future__ import annotations

import re
from functools import partial

from flask import Blueprint, Flask, Response, current_app, request
from flask.blueprints import BlueprintSetupState
from flask.cli import with_appcontext
from werkzeug.exceptions import HTTPException

from ..cli.check import check_command
from ..cli.key import key
from ..config import Settings
from ..dialects.ollama.answer import error_record
from ..engine_client.client import Client
from ..errors import ServiceError
from .context import open_context
from .extension_check import around
from .guard import Guard
from .http_responses import add_request_id, error_response, http_error_response, redirect_to
from .inference import Inference
from .neighbours import keep_body, share_exemption
from .observer import Observer
from .route import Route
from .routes.anthropic import AnthropicRoutes
from .routes.base import Routes
from .routes.events import EventRoutes
from .routes.ollama import OllamaRoutes
from .routes.openai import OpenAIRoutes
from .routes.operations import OperationsRoutes
from .routes.page import PageRoutes
from .routes.streams import StreamRoutes

ALL_ROUTES: tuple[type[Routes], ...] = (
    OllamaRoutes,
    OpenAIRoutes,
    AnthropicRoutes,
    OperationsRoutes,
    EventRoutes,
    StreamRoutes,
    PageRoutes,
)


def all_routes() -> dict[str, list[Route]]:
    """Return every declared Route by the name of its dialect, in order. Needs no application and connects to nothing.

    `docs/reference/routes.md` is printed from this table.
    """
    settings = Settings()
    client = Client(settings.engine_socket, settings.heartbeat)
    return {routes.name: routes(settings, client).table() for routes in ALL_ROUTES}


def create_blueprint(settings: Settings | None = None, name: str = "vllm_wsgi") -> Blueprint:
    """Return a blueprint with the routes of every dialect, which can be registered under any `url_prefix`.

    Without `settings` they are read from the environment. The application's own code finds an Inference in
    `app.extensions` under the blueprint's name. Nothing is connected before the first request, and the host
    application's own routes, error handlers and JSON provider stay as they are. Raises SettingsError when no engine
    host is named, and when the keys can't be read.
    """
    settings = settings or Settings.from_env()
    inference = Inference(settings)
    blueprint = Blueprint(name, __name__, cli_group="vllm-wsgi")
    blueprint.cli.add_command(key)
    blueprint.cli.add_command(check_command(settings, with_appcontext(lambda: around(current_app, blueprint))))
    dialects = [routes(settings, inference.client) for routes in ALL_ROUTES]
    for routes in dialects:
        routes.neighbours = tuple(each for each in dialects if each is not routes)
    nested = [routes.blueprint() for routes in dialects]
    for each in nested:
        blueprint.register_blueprint(each)
    # For rules that the application adds to this blueprint itself.
    blueprint.register_error_handler(ServiceError, partial(error_response, error_record))
    blueprint.url_value_preprocessor(lambda endpoint, values: before_any_hook(blueprint, nested))
    add_hooks(blueprint, dialects, Guard(settings), Observer(inference.reports))
    blueprint.record(partial(add_extension, inference))
    return blueprint


def add_extension(inference: Inference, state: BlueprintSetupState) -> None:
    """Keep `inference` for the application's own code, under the name with which the blueprint is registered."""
    state.app.extensions[state.name] = inference


def before_any_hook(blueprint: Blueprint, nested: list[Blueprint]) -> None:
    """Run before the application's own `before_request` hooks, which Flask calls before those of a blueprint."""
    keep_body()
    share_exemption(blueprint, nested)


def add_hooks(blueprint: Blueprint, dialects: list[Routes], guard: Guard, observer: Observer) -> None:
    """Register the steps before and after each request, in their order."""
    routes = {f"{each.name}.{route.endpoint}": route for each in dialects for route in each.routes()}

    def before_request() -> Response | None:
        # The application may register the blueprint under another name; the last two parts of an endpoint are ours.
        endpoint = ".".join((request.endpoint or "").split(".")[-2:])
        context = open_context(routes.get(endpoint))
        observer.opened(context)
        answer = guard.check_origin() or guard.check_host()  # 403, or an answer to OPTIONS
        if answer is None:
            guard.identify(context)  # 401
            guard.authorize(context)  # 403
            guard.refuse_while_draining(context)  # 503
        return answer

    def after_request(response: Response) -> Response:
        return observer.report_when_closed(guard.add_cors_headers(add_request_id(response)))

    # Flask looks at each hook anew for each request, so there is one before and one after it.
    blueprint.before_request(before_request)
    blueprint.after_request(after_request)


def register_json_errors(app: Flask) -> None:
    """Answer errors in JSON on paths that no blueprint has. For an application that has no HTML pages."""

    def answer(error: HTTPException) -> Response:
        return add_request_id(_without_double_slashes() or http_error_response(error_record, error))

    app.register_error_handler(HTTPException, answer)


def _without_double_slashes() -> Response | None:
    """Return a redirect to the route that the path would have with single slashes, None if there is no such route.

    Clients join a base URL that ends in a slash with a path that begins with one. Go's server redirects them, too.
    """
    path, adapter = re.sub("/{2,}", "/", request.path), current_app.create_url_adapter(request)
    if path == request.path or adapter is None or not adapter.test(path, request.method):
        return None
    return redirect_to(path)
