"""The routes for those who run the server: load balancers and Prometheus."""

from __future__ import annotations

from flask import Blueprint, Response

from . import ollama
from .health import check_ready
from .metrics import MEDIA_TYPE, exposition
from .routes import Route, Routes, json_response


class OperationsRoutes(Routes):
    name = "operations"
    bases = ()
    package = "operations"
    error_record = staticmethod(ollama.error_record)

    def table(self) -> list[Route]:
        return [
            Route("/livez", ["GET", "HEAD"], self.live),
            Route("/readyz", ["GET", "HEAD"], self.ready),
            Route("/metrics", ["GET"], self.metrics),
        ]

    def blueprint(self) -> Blueprint:
        """What it answers holds for now, errors too."""
        blueprint = super().blueprint()
        blueprint.after_request(_uncached)
        return blueprint

    def live(self) -> Response:
        return json_response({"status": "alive"})

    def ready(self) -> Response:
        check_ready(self._client)
        return json_response({"status": "ready"})

    def metrics(self) -> Response:
        return Response(exposition(self._client), content_type=MEDIA_TYPE)


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
