"""The route of `/api/events`: the state of the server and each ended request, as server-sent events."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

from flask import Response, request

from ...access.scopes import Scope
from ...dialects.ollama.answer import error_record
from ...drain import refuse_while_draining
from ...engine_client.observation import Observation
from ...errors import BadRequest, ClientGone, Drained
from ...protocol.live import LiveEvent
from ...telemetry.live_record import live_record
from ...version import __version__
from ..context import presence
from ..framing import RETRY, SSE
from ..http_responses import STREAM_HEADERS, streamed_response
from ..route import Route
from .base import Routes

logger = logging.getLogger("vllm_wsgi.web")


class EventRoutes(Routes):
    name = "events"
    # Other methods get a 405 that names these.
    bases = ("/api/events",)
    package = "events"
    error_record = staticmethod(error_record)

    def table(self) -> list[Route]:
        return [
            Route(
                "/api/events",
                ("GET", "HEAD"),
                self.events,
                Scope.OBSERVE,
                "what happens now: states, numbers, requests",
            )
        ]

    def events(self) -> Response:
        refuse_while_draining()
        seconds = _seconds(request.args.get("seconds", "0"))
        if request.method == "HEAD":
            return Response(content_type=SSE.media_type, headers=STREAM_HEADERS)
        observation = self._client.observe(request.headers.get("Last-Event-ID", ""), seconds, presence())
        return streamed_response(_stream(observation, self._settings.resume_seconds > 0), SSE, observation.close)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadRequest("seconds must be a number that is not negative")
    return seconds


def _stream(observation: Observation, resumable: bool) -> Iterator[bytes]:
    """Yield the events as bytes. The stream ends when the client leaves and when this process shuts down."""
    try:
        yield RETRY
        for batch in observation.batches():
            yield b"".join([_frame(event, resumable) for event in batch]) or SSE.heartbeat
    except (ClientGone, Drained):
        return
    except Exception:
        logger.exception("a stream of events broke")


def _frame(event: LiveEvent, resumable: bool) -> bytes:
    name, record = live_record(event, __version__, resumable)
    mark = f"id: {event.mark}\n" if event.mark else ""
    return f"{mark}event: {name}\n".encode() + SSE.frame(record)
