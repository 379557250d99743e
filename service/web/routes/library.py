"""Ollama's routes that pull, create, copy and delete models, and take the files that they are made of."""

from __future__ import annotations

from flask import Response, request

from ...dialects.ollama import library as ollama_library
from ...dialects.ollama.library import Order, ProgressAnswer, quoted
from ...engine_client.exchange import Job
from ...errors import BadRequest, ModelNotFound
from ..body import body_chunks
from ..context import entry_of, presence
from ..negotiation import negotiate
from .base import Route, Routes


class LibraryRoutes(Routes):
    def table(self) -> list[Route]:
        return [
            Route("/api/pull", ["POST"], self.pull),
            Route("/api/create", ["POST"], self.create),
            Route("/api/copy", ["POST"], self.copy),
            Route("/api/delete", ["DELETE"], self.delete),
            Route("/api/blobs/<digest>", ["HEAD", "POST"], self.blob),
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
        return empty(200)

    def delete(self) -> Response:
        self._client.delete(ollama_library.parse_delete(self._body("DeleteRequest")))
        return empty(200)

    def blob(self, digest: str) -> Response:
        present = self._client.has_blob(digest)
        if request.method == "HEAD":
            return empty(200 if present else 404)
        if not present:
            self._client.put_blob(digest, body_chunks())
        return empty(200 if present else 201)

    def _work(self, order: Order, job: Job) -> Response:
        """Progress in the format that the client wants, or the last of it."""
        entry_of(request.environ).model = order.model
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


def empty(status: int) -> Response:
    """Without a body, and so without a type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response
