"""Ollama's own routes: each reads as a list of verbs."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from flask import Response, request

from ...access.scopes import Scope
from ...dialects.ollama import embeddings as ollama_embeddings
from ...dialects.ollama import models as ollama_models
from ...dialects.ollama.answer import OllamaAnswer, OllamaChatAnswer, OllamaGenerateAnswer, error_record
from ...dialects.ollama.request import OllamaCall, parse_chat, parse_generate, parse_show
from ...errors import Unsupported
from ...protocol.model_info import EngineState
from ...version import __version__
from ..context import context, presence
from ..framing import SSE
from ..http_responses import json_response, single_response
from ..negotiation import negotiate
from ..route import Route
from .library import LibraryRoutes

# The routes that need the servers of ollama.com, by what follows /api/.
UNSUPPORTED = ("push", "me", "signout", "user", "experimental")


class OllamaRoutes(LibraryRoutes):
    name = "ollama"
    bases = ("/api",)
    package = "api"
    empty_body = "missing request body"
    error_record = staticmethod(error_record)

    def table(self) -> list[Route]:
        return [
            Route("/", ("GET", "HEAD"), self.root, Scope.OPEN, "Ollama is running"),
            Route("/api/version", ("GET", "HEAD"), self.version, Scope.OPEN, "the version of Ollama that is reported"),
            Route("/api/status", ("GET",), self.status, Scope.OBSERVE, "what each model is doing"),
            Route("/api/tags", ("GET", "HEAD"), self.tags, Scope.ANY, "the models"),
            Route("/api/ps", ("GET",), self.ps, Scope.ANY, "the models that are loaded"),
            Route("/api/show", ("POST",), self.show, Scope.ANY, "what a model's files say"),
            Route("/api/generate", ("POST",), self.generate, Scope.INFERENCE, "an answer to a prompt, or a load"),
            Route("/api/chat", ("POST",), self.chat, Scope.INFERENCE, "an answer to messages, or a load"),
            Route("/api/embed", ("POST",), self.embed, Scope.INFERENCE, "the vectors of texts"),
            Route("/api/embeddings", ("POST",), self.embeddings, Scope.INFERENCE, "the vector of a text"),
            *super().table(),
        ]

    def root(self) -> Response:
        """Answer as Ollama does. A browser also gets a Link header to the web page."""
        response = Response("Ollama is running", content_type="text/plain; charset=utf-8")
        if self._settings.page:
            response.vary.add("Accept")
            if any(kind == "text/html" for kind, _ in request.accept_mimetypes):
                # Relative, since a proxy in front may add a prefix.
                response.headers["Link"] = '<ui>; rel="alternate"; type="text/html"'
        return response

    def version(self) -> Response:
        return json_response({"version": self._settings.ollama_version})

    def status(self) -> Response:
        """Return Ollama's answer about its cloud. Beside it is ours: the version, the models, and those left out."""
        status = self._client.status()
        models = [
            {"name": model.info.name, "state": model.state, "running": model.running, "waiting": model.waiting,
             "restarts": model.restarts, "replicas": [ollama_models.replica(each) for each in model.replicas]}
            for model in status.models
        ]  # fmt: skip
        left_out = [{"name": model.name, "reason": model.reason} for model in status.left_out]
        cloud = {"disabled": True, "source": "config"}
        ours = {"version": __version__, "models": models, "left_out": left_out}
        if status.nodes:
            ours["nodes"] = msgspec.to_builtins(status.nodes)
        return json_response({"cloud": cloud, "vllm_wsgi": ours})

    def tags(self) -> Response:
        return json_response(ollama_models.tags(self._client.models()))

    def ps(self) -> Response:
        ready = [model for model in self._client.loaded() if model.state is EngineState.READY]
        longest_first = sorted(ready, key=lambda model: -model.expires_at)
        return json_response({"models": [ollama_models.loaded(model) for model in longest_first]})

    def show(self) -> Response:
        asked, name, verbose = parse_show(self._body("ShowRequest"))
        if verbose:
            record = ollama_models.show_verbose(self._client.show_verbose(name.short))
        else:
            record = ollama_models.show(self._client.show(name.short))
        if request.headers.get("User-Agent", "").startswith("GitHubCopilotChat/"):
            # Copilot shows this name and asks for the model by it (Ollama's `server/routes.go`, ShowHandler).
            record["model_info"]["general.basename"] = asked
        return json_response(record)

    def generate(self) -> Response:
        call = parse_generate(self._body("GenerateRequest"))
        return self._generate(call, OllamaGenerateAnswer(call), "ollama.generate")

    def chat(self) -> Response:
        call = parse_chat(self._body("ChatRequest"))
        return self._generate(call, OllamaChatAnswer(call), "ollama.chat")

    def embed(self) -> Response:
        began = time.monotonic_ns()
        call = ollama_embeddings.parse_embed(self._body("EmbedRequest"))
        located, embedded = self._embed(call.request, call.keep_alive)
        took = time.monotonic_ns() - began
        return json_response(ollama_embeddings.embed_record(call, embedded, located.load_ns, took))

    def embeddings(self) -> Response:
        call = ollama_embeddings.parse_embeddings(self._body("EmbeddingRequest"))
        _, embedded = self._embed(call.request, call.keep_alive)
        return json_response(ollama_embeddings.embeddings_record(embedded))

    def unknown(self, base: str, path: str = "") -> Response:
        if path.partition("/")[0] in UNSUPPORTED:
            raise Unsupported(f"/api/{path} is not supported: it needs ollama.com")
        return super().unknown(base, path)

    def _generate(self, call: OllamaCall, answer: OllamaAnswer, kind: str) -> Response:
        """Return one generation in the format that the client asks for, or the record of a load or an unload."""
        chosen = negotiate(call.stream, call.stream_type, request.args.get("alt"), request.headers.get("Accept", ""))
        if call.request is None:
            response = single_response(self._load_or_unload(call, answer), chosen)
        elif call.keeping and not call.request.render_only:
            response = self._keeper.begin(
                kind, call, self._asked([call.request], kept=True), chosen, call.keeping, call.keep_alive
            )
        else:
            # The answer is one record, the prompt. It is streamed only to a reader of events.
            framed = chosen if chosen is SSE or not call.request.render_only else None
            response = self._stream_or_collect([call.request], answer, framed, call.keep_alive)
        response.vary.add("Accept")
        return response

    def _load_or_unload(self, call: OllamaCall, answer: OllamaAnswer) -> Any:
        current = context()
        current.stats.model = call.model
        if call.unload:
            current.key.check(Scope.MANAGE)
            self._client.unload(call.model)
            return answer.only("unload")
        answer.located(self._client.load(call.model, presence(), current.key.caller, call.keep_alive))
        return answer.only("load")
