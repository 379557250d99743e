"""Anthropic's routes: each reads as a list of verbs."""

from __future__ import annotations

from typing import Any

from flask import Response

from . import anthropic
from .errors import ServiceError
from .framing import SSE_PINGED
from .routes import Route, Routes, current_id


class AnthropicRoutes(Routes):
    name = "anthropic"
    bases = ("/v1/messages",)
    package = "anthropic"

    @staticmethod
    def error_record(error: ServiceError) -> Any:
        return anthropic.error_record(error) | {"request_id": current_id()}

    def table(self) -> list[Route]:
        return [
            Route("/v1/messages", ["POST"], self.messages),
            Route("/v1/messages/count_tokens", ["POST"], self.count_tokens),
        ]

    def messages(self) -> Response:
        call = anthropic.parse_messages(self._body("MessagesRequest"))
        return self._answer([call.request], anthropic.Answer(call), SSE_PINGED if call.stream else None)

    def count_tokens(self) -> Response:
        call = anthropic.parse_count_tokens(self._body("CountTokensRequest"))
        return self._answer([call.request], anthropic.CountAnswer(call.model), None)
