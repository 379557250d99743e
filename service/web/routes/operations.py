"""Routes for load balancers and monitoring: health, readiness, metrics."""

from __future__ import annotations

from flask import Blueprint, Response

from ...access.scopes import Scope
from ...dialects.ollama.answer import error_record
from ...drain import refuse_while_draining
from ...engine_client.client import Client
from ...errors import Unavailable
from ...telemetry.metrics import MEDIA_TYPE, exposition
from ...version import VLLM_VERSION
from ..http_responses import empty_response, json_response
from ..route import Route
from .base import METHODS, Routes


def check_ready(client: Client) -> str:
    """Raise Unavailable, with the reason, unless there is a model for new requests.

    While an engine host on another machine can't be reached, models may still serve. Return the reason then, else "".
    """
    refuse_while_draining()
    try:
        trouble = client.trouble()
    except Unavailable as error:
        if not (known := client.known_models()):
            raise
        return f"{error.message}; models that are still served: {', '.join(known)}"
    if trouble:
        raise Unavailable(trouble)
    return ""


class OperationsRoutes(Routes):
    name = "operations"
    bases = ()
    package = "operations"
    error_record = staticmethod(error_record)

    def table(self) -> list[Route]:
        return [
            Route("/livez", ("GET", "HEAD"), self.live, Scope.OPEN, "whether this web worker lives"),
            Route("/readyz", ("GET", "HEAD"), self.ready, Scope.OPEN, "whether requests can be served now"),
            Route("/health", ("GET", "HEAD"), self.health, Scope.OPEN, "as `/readyz`, in vLLM's form: an empty answer"),
            Route("/ping", ("GET", "HEAD", "POST"), self.health, Scope.OPEN, "as `/health`, for SageMaker"),
            Route("/version", ("GET", "HEAD"), self.version, Scope.OPEN, "the version of vLLM whose API this is"),
            Route("/metrics", ("GET",), self.metrics, Scope.OBSERVE, "metrics in Prometheus' text format"),
        ]

    def routes(self) -> list[Route]:
        """Return the routes, and the answers to other methods: with OPTIONS a page asks before it sends a key."""
        table = self.table()
        return table + [self.fallback(route.path, route.path, METHODS - set(route.methods)) for route in table]

    def blueprint(self) -> Blueprint:
        """Forbid caches for every answer, errors included: each holds for this moment only."""
        blueprint = super().blueprint()
        blueprint.after_request(_uncached)
        return blueprint

    def live(self) -> Response:
        return json_response({"status": "alive"})

    def ready(self) -> Response:
        without_host = check_ready(self._client)
        return json_response({"status": "ready", "engine_host": without_host} if without_host else {"status": "ready"})

    def health(self) -> Response:
        """Answer as vLLM's server does, for clients that wait for it to be ready (guidellm)."""
        check_ready(self._client)
        return empty_response(200)

    def version(self) -> Response:
        """Answer as vLLM's server does. `/api/version` is Ollama's, and `/api/status` has our own."""
        return json_response({"version": VLLM_VERSION})

    def metrics(self) -> Response:
        return Response(exposition(self._client), content_type=MEDIA_TYPE)


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
