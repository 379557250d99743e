"""Ollama's routes that pull, create, copy and delete models, and take the files that they are made of."""

from __future__ import annotations

from flask import Response, request

from ...access.scopes import Scope
from ...dialects.ollama import library as ollama_library
from ...dialects.ollama.library import Order, ProgressAnswer, quoted
from ...engine_client.exchange import Job
from ...errors import BadRequest, ModelNotFound
from ..body import body_chunks
from ..context import context, presence
from ..http_responses import empty_response
from ..negotiation import negotiate
from ..route import Route
from .base import Routes


class LibraryRoutes(Routes):
    def table(self) -> list[Route]:
        return [
            Route("/api/pull", ("POST",), self.pull, Scope.MANAGE, "fetch a model from Hugging Face"),
            Route("/api/create", ("POST",), self.create, Scope.MANAGE, "make a model from another or from blobs"),
            Route("/api/copy", ("POST",), self.copy, Scope.MANAGE, "give a model a second name"),
            Route("/api/delete", ("DELETE",), self.delete, Scope.MANAGE, "delete a model"),
            Route("/api/blobs/<digest>", ("HEAD", "POST"), self.blob, Scope.MANAGE, "find or upload a file"),
        ]

    def pull(self) -> Response:
        order = ollama_library.parse_pull(self._body("PullRequest"))
        return self._work(order, self._client.pull(order.model, presence()))

    def create(self) -> Response:
        order = ollama_library.parse_create(self._body("CreateRequest"))
        return self._work(order, self._client.create(order.model, order.recipe, presence()))

    def copy(self) -> Response:
        source, destination = ollama_library.parse_copy(self._body("CopyRequest"))
        try:
            self._client.copy(source, destination)
        except ModelNotFound:
            raise ModelNotFound(f"model {quoted(source)} not found") from None
        return empty_response(200)

    def delete(self) -> Response:
        self._client.delete(ollama_library.parse_delete(self._body("DeleteRequest")))
        return empty_response(200)

    def blob(self, digest: str) -> Response:
        present = self._client.has_blob(digest)
        if request.method == "HEAD":
            return empty_response(200 if present else 404)
        if not present:
            self._client.put_blob(digest, body_chunks())
        return empty_response(200 if present else 201)

    def _work(self, order: Order, job: Job) -> Response:
        """Return the progress in the format that the client asks for, or its last record alone."""
        context().stats.model = order.model
        try:
            chosen = negotiate(
                order.stream, order.stream_type, request.args.get("alt"), request.headers.get("Accept", "")
            )
        except BadRequest:
            job.close()
            raise
        response = self._respond(job, ProgressAnswer(order.model), chosen)
        response.vary.add("Accept")
        return response
