"""OpenAI's routes. The body alone says whether to stream; `Accept` changes nothing."""

from __future__ import annotations

from flask import Response

from . import openai, openai_chat, openai_completions, openai_embeddings, openai_models, openai_responses
from .framing import SSE_NAMED, SSE_WITH_DONE
from .names import ModelName
from .routes import Route, Routes, json_response


class OpenAIRoutes(Routes):
    name = "openai"
    bases = ("/v1",)
    package = "openai"
    error_record = staticmethod(openai.error_record)

    def table(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", ["POST"], self.chat_completions),
            Route("/v1/completions", ["POST"], self.completions),
            Route("/v1/responses", ["POST"], self.responses),
            Route("/v1/embeddings", ["POST"], self.embeddings),
            Route("/v1/models", ["GET"], self.models),
            Route("/v1/models/<path:name>", ["GET"], self.model),
        ]

    def chat_completions(self) -> Response:
        call = openai_chat.parse_chat(self._body("ChatCompletionRequest"))
        return self._generate(call, openai_chat.ChatAnswer(call))

    def completions(self) -> Response:
        call = openai_completions.parse_completion(self._body("CompletionRequest"))
        return self._generate(call, openai_completions.CompletionAnswer(call))

    def responses(self) -> Response:
        call = openai_responses.parse_responses(self._body("ResponsesRequest"))
        return self._answer([call.request], openai_responses.Answer(call), SSE_NAMED if call.stream else None)

    def embeddings(self) -> Response:
        call = openai_embeddings.parse_embeddings(self._body("EmbedRequest"))
        _, embedded = self._embed(call.request)
        return json_response(openai_embeddings.embeddings_record(call, embedded))

    def models(self) -> Response:
        return json_response(openai_models.models(self._client.models()))

    def model(self, name: str) -> Response:
        return json_response(openai_models.model(self._client.show(ModelName.parse(name).short), name))

    def _generate(self, call: openai.Call, answer: openai.Answer) -> Response:
        return self._answer(call.requests, answer, SSE_WITH_DONE if call.stream else None)
