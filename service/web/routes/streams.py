"""The routes of streams that outlive their connection: each reads as a list of verbs."""

from __future__ import annotations

from flask import Response

from ...access.scopes import Scope
from ...dialects.ollama.answer import error_record
from ..route import LinkedRoute, Route
from ..stream_keeper import STREAMS
from .base import Routes


class StreamRoutes(Routes):
    name = "streams"
    bases = ()
    package = "streams"
    error_record = staticmethod(error_record)

    def table(self) -> list[Route]:
        return [
            Route(STREAMS, ("GET",), self.streams, Scope.INFERENCE, "one's own streams that are kept"),
            LinkedRoute(f"{STREAMS}/<id>", ("GET",), self.stream, Scope.INFERENCE, "the rest of a stream"),
            Route(f"{STREAMS}/<id>", ("DELETE",), self.end, Scope.INFERENCE, "end a stream"),
        ]

    def streams(self) -> Response:
        return self._keeper.listed()

    def stream(self, id: str) -> Response:
        return self._keeper.resume(id)

    def end(self, id: str) -> Response:
        return self._keeper.end(id)
