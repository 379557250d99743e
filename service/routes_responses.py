"""OpenAI's Responses: one route."""

from __future__ import annotations

from flask import Response

from . import openai, openai_responses
from .framing import SSE_NAMED
from .routes import Route, Routes


class ResponsesRoutes(Routes):
    name = "responses"
    bases = ("/v1/responses",)
    package = "openai"
    error_record = staticmethod(openai.error_record)

    def table(self) -> list[Route]:
        return [Route("/v1/responses", ["POST"], self.responses)]

    def responses(self) -> Response:
        call = openai_responses.parse_responses(self._body("ResponsesRequest"))
        return self._answer([call.request], openai_responses.Answer(call), SSE_NAMED if call.stream else None)
