"""A stream that outlives its client. When the client leaves, this web worker guards the stream against engine deaths.

In: requests, and how the engine worker keeps their answers. Out: batches of events, or a ServiceError.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from ..errors import ClientGone, ClientTooSlow, Drained, EngineGone, ServiceError, StreamGone
from ..protocol.commands import Command, Submit
from ..protocol.events import Delta, Event, Failed, Finished, Head
from ..protocol.joined import JoinedAnswers, Places
from ..protocol.kept import Detach, EndStream, Keep, SubmitKept
from ..protocol.wire import pack_events
from .connections import Connections, new_id
from .disconnect import Presence
from .exchange import Times
from .stream import Stream, StreamOrder

logger = logging.getLogger("vllm_wsgi.queue")

# How long a stream in the background may take to be accepted before its client gets its address. Seconds.
ACCEPT_SECONDS = 1.0

Consume = Callable[[Iterator[list[Event]]], None]


def _drop(batches: Iterator[list[Event]]) -> None:
    deque(batches, maxlen=0)


class GuardedStream(Stream):
    """The answers to requests to one model, which an engine worker keeps for clients that come back.

    It holds the answers so far, so that the next engine gets them. Iterating `batches` runs it, or `run_in_background`.
    """

    def __init__(
        self, connections: Connections, times: Times, presence: Presence, order: StreamOrder, keep: Keep
    ) -> None:
        self._joined = JoinedAnswers()
        super().__init__(connections, times, presence, order, self._joined)
        self._keep = keep
        self._answer_count = sum(request.n for request in order.requests)
        self._ids = [submit.id for submit in self._submits for _ in range(submit.request.n)]
        self._is_submitted = self._is_over = self._is_abandoned = False
        self._stands_by = False
        self._consume: Consume = _drop
        self._accepted = threading.Event()
        self._refusal: ServiceError | None = None
        # Whether the client knows of the stream, which then stays whatever becomes of it. The lock guards the decision.
        self._is_known = True
        self._deciding = threading.Lock()

    def batches(self) -> Iterator[list[Event]]:
        """Yield the events for the client. Raises ClientGone where the stream goes on without it."""
        try:
            yield from self._run()
        except ServiceError as error:
            if self._is_over:
                raise
            # The engine goes on; a client that comes back gets the rest.
            raise ClientGone(error.message) from None
        finally:
            self.close()

    def run_in_background(self, consume: Consume = _drop) -> None:
        """Run the stream in a new thread, in which `consume` iterates over the batches.

        Returns once the engine has accepted the stream, or after ACCEPT_SECONDS. Raises an error that comes before;
        the stream is not kept then.
        """
        self._stands_by = True
        self._is_known = False
        self._consume = consume
        self._forget_client()
        threading.Thread(target=self._keep_up, name=f"stream {self._keep.stream[:8]}", daemon=True).start()
        self._accepted.wait(ACCEPT_SECONDS)
        with self._deciding:
            self._is_known = self._refusal is None
        if self._refusal is not None:
            raise self._refusal

    def is_accepted(self, seconds: float) -> bool:
        """Wait up to `seconds` for the engine to accept a stream in the background. Raises its refusal."""
        is_accepted = self._accepted.wait(seconds)
        if self._refusal is not None:
            raise self._refusal
        return is_accepted

    def close(self) -> None:
        """Begin to guard the stream when the client has left before its end. Idempotent."""
        if self._stands_by:
            # The guarding thread closes it.
            return
        if self._is_over or self._is_abandoned:
            super().close()
        else:
            self._stand_by()

    def abandon(self) -> None:
        """End the stream: the client does not know of it."""
        self._is_abandoned = True
        self._send_only(EndStream(new_id(), self._keep.stream, self._keep.owner, forget=True))
        # Ends the guarding thread, which checks this whenever it waits.
        self._inbox.client_left()
        self.close()

    def _run(self) -> Iterator[list[Event]]:
        """Yield the rest of the events. It can be run again when its reader has stopped early."""
        try:
            if not self._is_submitted:
                yield from self._first_engine()
            yield from self._answers()
            self._is_over = True
        except (ClientGone, Drained):
            raise
        except ClientTooSlow:
            # The connection has cancelled the command already, so there is nothing to guard any more.
            self._is_abandoned = True
            raise
        except ServiceError as error:
            self._is_over = True
            self._send_only(EndStream(new_id(), self._keep.stream, self._keep.owner, error.kind, error.message))
            raise

    def _stand_by(self) -> None:
        self._stands_by = True
        self._forget_client()
        # The host may still work at a Locate with the former number.
        self._inbox.id = new_id()
        if self._is_submitted:
            self._send_only(Detach(new_id(), self._keep.stream, self._keep.owner))
        threading.Thread(target=self._keep_up, name=f"stream {self._keep.stream[:8]}", daemon=True).start()

    def _keep_up(self) -> None:
        try:
            self._consume(self._run())
        except (ClientGone, StreamGone, Drained) as error:
            logger.info("request %s is not followed any more: %s", self._inbox.request_id, error.message)
        except ServiceError as error:
            self._fail(error)
            logger.warning("request %s failed without a client: %r", self._inbox.request_id, error.message)
        except Exception:
            logger.exception("request %s failed without a client", self._inbox.request_id)
        finally:
            self._is_over = True
            self._accepted.set()
            super().close()

    def _fail(self, error: ServiceError) -> None:
        """Pass on the error of a stream that no engine has accepted, or that the client does not know of yet."""
        with self._deciding:
            if not self._is_known or not self._accepted.is_set():
                self._refusal = error
            if not self._is_known:
                self._send_only(EndStream(new_id(), self._keep.stream, self._keep.owner, forget=True))

    def _send_only(self, command: Command) -> None:
        """Send a command, and ignore its answer."""
        if self._asked is not None and self._is_submitted:
            with contextlib.suppress(ServiceError):
                self._asked.send(command)

    def _submit(self, submits: list[Submit]) -> Failed | None:
        assert self.location is not None
        so_far = list(self._joined.since(Places()))
        keep = replace(self._keep, load_ns=self.location.load_ns)
        command = SubmitKept(
            new_id(),
            keep,
            [submit.request for submit in submits],
            [self._first[submit.id] for submit in submits],
            self._answer_count,
            self.location.defaults,
            pack_events([*so_far]) if so_far else b"",
            reads=not self._stands_by,
        )
        self._first[command.id] = 0
        try:
            self._ask(self._connections.connection(self.location.socket), command)
        except EngineGone as error:
            return Failed.of(self._inbox.id, error)
        finally:
            self._is_submitted = True
        self._open[command.id] = len(self._moves.left())
        return None

    def _wait(self) -> list[Event]:
        events = super()._wait()
        while events and isinstance(events[0], Head):
            self._accepted.set()
            events = events[1:] or super()._wait()
        return events

    def _number(self, event: Delta | Finished) -> None:
        event.index += self._first[event.id]
        self._joined.add(event)
        event.id = self._ids[event.index]
