"""OpenAI's routes. The body alone decides whether to stream; `Accept` changes nothing.

Anthropic's API has `/v1/models`, too. Its clients are recognised by a header that each of their requests has.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any

from flask import Blueprint, Response, request
from msgspec.structs import replace

from ...access.scopes import Scope
from ...config import Settings
from ...dialects.answer import Record
from ...dialects.anthropic import models as anthropic_models
from ...dialects.count_answer import CountAnswer
from ...dialects.openai import answer as openai_answer
from ...dialects.openai import completions as openai_completions
from ...dialects.openai import embeddings as openai_embeddings
from ...dialects.openai import models as openai_models
from ...dialects.openai import responses_answer
from ...dialects.openai.answer import error_record
from ...dialects.openai.chat_answer import ChatAnswer
from ...dialects.openai.chat_request import parse_chat
from ...dialects.openai.parameters import OpenAICall
from ...dialects.openai.responses_request import ResponsesCall, parse_responses, previous_response_id
from ...dialects.openai.responses_stored import input_items, referred_responses
from ...engine_client.client import Client
from ...errors import BadRequest, HTTPRefusal, ResponseNotFound, ServiceError, StreamGone
from ...syntax.names import ModelName
from ..context import context
from ..framing import SSE_NAMED, SSE_WITH_DONE
from ..http_responses import json_response
from ..kept_responses import BackgroundResponses
from ..route import Route
from ..stored_responses import StoredConversations, stored_response
from .anthropic import AnthropicRoutes, add_anthropics_request_id
from .base import Routes

# Routes of OpenAI's that this server does not have. Their last parts would be ids of responses here.
ABSENT = ("responses/compact",)
# OpenAI's words and code for a response whose events nobody kept.
NO_BACKGROUND = "cannot be streamed because it was not created with background=true."
INVALID = "invalid_request_error"


class OpenAIRoutes(Routes):
    name = "openai"
    bases = ("/v1",)
    package = "openai"

    @staticmethod
    def error_record(error: ServiceError) -> Any:
        return AnthropicRoutes.error_record(error) if _is_anthropics() else error_record(error)

    def __init__(self, settings: Settings, client: Client) -> None:
        super().__init__(settings, client)
        self._background = BackgroundResponses(client, self._keeper, settings.heartbeat)

    def blueprint(self) -> Blueprint:
        blueprint = super().blueprint()
        blueprint.after_request(lambda response: add_anthropics_request_id(response) if _is_anthropics() else response)
        return blueprint

    def table(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", ("POST",), self.chat_completions, Scope.INFERENCE, "an answer to messages"),
            Route("/v1/completions", ("POST",), self.completions, Scope.INFERENCE, "an answer to a prompt"),
            Route("/v1/responses", ("POST",), self.responses, Scope.INFERENCE, "an answer to items, which can be kept"),
            Route("/v1/responses/input_tokens", ("POST",), self.input_tokens, Scope.INFERENCE, "a prompt's tokens"),
            Route("/v1/responses/<id>", ("GET",), self.response, Scope.INFERENCE, "a kept response"),
            Route("/v1/responses/<id>", ("DELETE",), self.delete_response, Scope.INFERENCE, "delete a kept response"),
            Route(
                "/v1/responses/<id>/cancel",
                ("POST",),
                self.cancel_response,
                Scope.INFERENCE,
                "end a response in the background",
            ),
            Route(
                "/v1/responses/<id>/input_items", ("GET",), self.input_items, Scope.INFERENCE, "what a response answers"
            ),
            Route("/v1/embeddings", ("POST",), self.embeddings, Scope.INFERENCE, "the vectors of texts"),
            Route("/v1/models", ("GET",), self.models, Scope.ANY, "the models"),
            Route("/v1/models/<path:name>", ("GET",), self.model, Scope.ANY, "one model"),
        ]

    def chat_completions(self) -> Response:
        call = parse_chat(self._body("ChatCompletionRequest"))
        return self._generate(call, ChatAnswer(call), "openai.chat")

    def completions(self) -> Response:
        call = openai_completions.parse_completion(self._body("CompletionRequest"))
        return self._generate(call, openai_completions.CompletionAnswer(call), "openai.completions")

    def unknown(self, base: str, path: str = "") -> Response:
        if path in ABSENT:
            raise HTTPRefusal(f"404 page not found: {base}/{path}", status=404)
        return super().unknown(base, path)

    def responses(self) -> Response:
        call = self._responses_call()
        if call.background:
            return self._background.begin(call, self._asked([call.request], kept=True))
        answer = responses_answer.ResponsesAnswer(call, keep=partial(self._client.store_response, owner()))
        return self._stream_or_collect([call.request], answer, SSE_NAMED if call.stream else None)

    def input_tokens(self) -> Response:
        call = self._responses_call()
        # A prompt of any length is counted.
        counted = replace(call.request, truncate=False, render_only=True)
        answer = CountAnswer(call.model, object="response.input_tokens")
        return self._stream_or_collect([counted], answer, None)

    def _responses_call(self) -> ResponsesCall:
        """Return the parsed body, with the items of the stored responses that it refers to."""
        body, size = self._sized_body("ResponsesRequest")
        stored = StoredConversations(self._client, owner(), self._settings.max_body, size)
        previous = previous_response_id(body)
        return parse_responses(
            body,
            stored.continued(previous) if previous else [],
            stores=self._settings.responses_days > 0,
            referred=stored.referred(referred_responses(body)),
            split_names=_splits_names(),
        )

    def response(self, id: str) -> Response:
        if request.args.get("stream", "").lower() in ("true", "1"):
            return self._events(id, _number(request.args.get("starting_after", "-1")))
        try:
            return json_response(self._stored(id)["response"])
        except ResponseNotFound:
            return json_response(self._background.snapshot(id))

    def _events(self, id: str, after: int) -> Response:
        """Return the events of a response in the background. Raises BadRequest for a response that has none."""
        try:
            return self._background.events(id, after)
        except (ResponseNotFound, StreamGone):
            with suppress(ResponseNotFound):
                was_background = self._stored(id)["response"].get("background")
                reason = "can no longer be streamed." if was_background else NO_BACKGROUND
                raise BadRequest(f"This response {reason}", param="stream", code=INVALID) from None
            raise

    def cancel_response(self, id: str) -> Response:
        """End the generation of a response in the background, unless it has ended. Raises BadRequest for others."""
        try:
            response = self._stored(id)["response"]
        except ResponseNotFound:
            return json_response(self._background.cancel(id))
        if not response.get("background"):
            raise BadRequest("Cannot cancel a synchronous response.", code=INVALID)
        return json_response(response)

    def delete_response(self, id: str) -> Response:
        self._background.delete(id)
        return json_response({"id": id, "object": "response", "deleted": True})

    def input_items(self, id: str) -> Response:
        try:
            stored = self._stored(id)
        except ResponseNotFound:
            stored = {"input": self._background.input(id)}
        return json_response(input_items(stored, request.args))

    def _stored(self, id: str) -> Record:
        return stored_response(self._client, owner(), id)

    def embeddings(self) -> Response:
        call = openai_embeddings.parse_embeddings(self._body("EmbedRequest"))
        _, embedded = self._embed(call.request)
        return json_response(openai_embeddings.embeddings_record(call, embedded))

    def models(self) -> Response:
        described = anthropic_models.models if _is_anthropics() else openai_models.models
        return json_response(described(self._client.models()))

    def model(self, name: str) -> Response:
        if name.endswith("/"):
            return self.unknown("/v1/models", name)
        described = anthropic_models.model if _is_anthropics() else openai_models.model
        return json_response(described(self._client.show(ModelName.parse(name).short), name))

    def _generate(self, call: OpenAICall, answer: openai_answer.OpenAIAnswer, kind: str) -> Response:
        chosen = SSE_WITH_DONE if call.stream else None
        if call.keeping:
            return self._keeper.begin(kind, call, self._asked(call.requests, kept=True), chosen, call.keeping)
        return self._stream_or_collect(call.requests, answer, chosen)


def _number(text: str) -> int:
    if not re.fullmatch(r"-1|[0-9]{1,12}", text):
        raise BadRequest("starting_after must be a number of an event", param="starting_after")
    return int(text)


def _is_anthropics() -> bool:
    """Return whether one of Anthropic's clients asks for models, or for a path that no route has."""
    rule = request.url_rule.rule if request.url_rule is not None else ""
    return ("/v1/models" in rule or rule.endswith("/v1/<path:path>")) and "anthropic-version" in request.headers


def _splits_names() -> bool:
    """Return whether the client is Codex, which finds a tool in a namespace by two fields, as OpenAI has them.

    Seen with Codex CLI 0.169: it answers "unsupported call" to `namespace.name`, which is what Ollama sends.
    """
    return request.headers.get("User-Agent", "").lower().startswith("codex")


def owner() -> str:
    """Return the owner of the responses that this request stores and reads: its key, or everyone without keys."""
    return context().key.caller.name
