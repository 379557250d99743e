"""Anthropic's routes: each reads as a list of verbs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from ...access.scopes import Scope
from ...dialects.anthropic.answer import MessagesAnswer, error_record
from ...dialects.anthropic.request import parse_count_tokens, parse_messages
from ...dialects.count_answer import CountAnswer
from ...errors import ServiceError
from ..context import context
from ..framing import SSE_PINGED
from ..route import Route
from .base import Routes


class AnthropicRoutes(Routes):
    name = "anthropic"
    bases = ("/v1/messages",)
    package = "anthropic"

    @staticmethod
    def error_record(error: ServiceError) -> Any:
        return error_record(error) | {"request_id": context().id}

    def blueprint(self) -> Blueprint:
        blueprint = super().blueprint()
        blueprint.after_request(add_anthropics_request_id)
        return blueprint

    def table(self) -> list[Route]:
        return [
            Route("/v1/messages", ("POST",), self.messages, Scope.INFERENCE, "a message"),
            Route("/v1/messages/count_tokens", ("POST",), self.count_tokens, Scope.INFERENCE, "the tokens of a prompt"),
        ]

    def messages(self) -> Response:
        call = parse_messages(self._body("MessagesRequest"))
        answer = MessagesAnswer(call, most_tokens=context().key.caller.max_output_tokens)
        return self._stream_or_collect([call.request], answer, SSE_PINGED if call.stream else None)

    def count_tokens(self) -> Response:
        call = parse_count_tokens(self._body("CountTokensRequest"))
        return self._stream_or_collect([call.request], CountAnswer(call.model), None)


def add_anthropics_request_id(response: Response) -> Response:
    """Set Anthropic's own header of the request's id. Its clients show it as `request_id` of an error or a message."""
    response.headers["Request-Id"] = context().id
    return response
