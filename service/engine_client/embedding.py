"""Embed texts; when the engine is lost, begin again on another one.

In: a request for vectors. Out: the vectors of all its texts, or a ServiceError.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from ..drain import drain
from ..errors import Drained, EngineFailure, EngineGone, GoingDown, ServiceError
from ..protocol.events import Located, Vectors
from ..protocol.request import EmbedRequest
from .connections import Connections
from .disconnect import Presence
from .exchange import Exchange, Times
from .moves import MOST_UNREACHED
from .stream import HOST_PAUSE_SECONDS, HOST_SECONDS

logger = logging.getLogger("vllm_wsgi.queue")

# When this many engines have crashed while they embedded the texts, the texts are taken for the cause.
MOST_CRASHES = 2


class EmbeddingExchange(Exchange):
    """One request for vectors. Vectors have no state, so that another engine begins with the first text."""

    def __init__(
        self,
        connections: Connections,
        times: Times,
        presence: Presence,
        request: EmbedRequest,
        keep_alive: float | None,
        moves: int = 0,
    ) -> None:
        """`keep_alive` is in seconds. The request may lose its engine `moves` times."""
        super().__init__(connections, times, presence, request.caller.name)
        self._request = request
        self._keep_alive = keep_alive
        self._limit = moves
        self._deaths = self._crashes = self._unreached = 0
        self._lost: list[str] = []

    def run(self) -> tuple[Located, Vectors]:
        """Wait until every input is embedded. Return where the model was first, and the vectors."""
        first = self._locate()
        located = first
        while True:
            has_run = False
            try:
                self._connections.connection(located.socket)
                has_run = True
                return first, self.embed(self._request)
            except (EngineGone, Drained) as error:
                self._begin_again(error, has_run)
            self._lost.append(located.socket)
            located = self._locate_again()

    def _locate(self) -> Located:
        deque(self.locate(self._request.model, self._keep_alive, 1, self._lost), maxlen=0)
        assert self.location is not None
        return self.location

    def _locate_again(self) -> Located:
        """Return where the model is, as soon as the engine host is there. Raises EngineGone when it stays away."""
        gives_up_at = time.monotonic() + HOST_SECONDS
        while True:
            try:
                return self._locate()
            except (EngineGone, GoingDown):
                self._answered()
                if time.monotonic() > gives_up_at or drain.begun:
                    raise
            self._pause(HOST_PAUSE_SECONDS)

    def _begin_again(self, error: ServiceError, has_run: bool) -> None:
        """Note that an engine was lost, and whether it `has_run` the request. Raises the error when no move is left."""
        if not self._limit or drain.begun:
            raise error
        self._answered()
        self._unreached += not has_run
        if has_run and isinstance(error, EngineGone):
            self._deaths += 1
            self._crashes += error.crashed
        if self._unreached > MOST_UNREACHED:
            raise error
        name = self._request.request_id
        if self._deaths > self._limit or self._crashes >= MOST_CRASHES:
            logger.error("request %s is given up: its engine died %d times while it ran", name, self._deaths)
            raise EngineFailure(f"the engine died {self._deaths} times while it ran this request: {error.message}")
        logger.warning("request %s begins again on another engine: %s", name, error.message)
