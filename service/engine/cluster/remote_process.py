"""An engine worker on a node, as its supervisor sees it: reports come, and the worker can be ended.

In: an actor's news. Out: reports, or EngineGone once the worker or its actor has ended. It never knows Ray.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from ...errors import EngineGone
from ...protocol.reports import Report
from ..exit_status import cause
from .news import WorkerNews

logger = logging.getLogger("vllm_wsgi.host")

# How long a node may take to answer that a worker has ended, beyond what the worker itself may take.
ANSWER_SECONDS = 15.0


class Actor(Protocol):
    """The actor, on its node, that starts and ends the worker."""

    async def news(self, after: int) -> bytes: ...

    def terminate(self) -> None: ...

    async def end(self, seconds: float) -> None: ...

    async def kill(self) -> None: ...


class RemoteProcess:
    """A worker that an actor starts.

    `is_left` returns whether workers are to go on without this host, and `is_draining` whether the node with an ID is
    about to be taken away.
    """

    # A worker on a node names its address itself.
    path = ""

    def __init__(
        self, actor: Actor, is_left: Callable[[], bool], is_draining: Callable[[str], bool] = lambda node_id: False
    ) -> None:
        self._actor = actor
        self._is_left = is_left
        self._is_draining = is_draining
        self._node = self._node_id = ""
        self._cpu = RemoteCpuTime()
        self._reports: asyncio.Queue[Report | EngineGone] = asyncio.Queue()
        self._following = asyncio.create_task(self._follow())

    @property
    def place(self) -> str:
        """The node's address; empty until the actor has been placed."""
        return self._node

    @property
    def must_leave(self) -> bool:
        return self._is_draining(self._node_id)

    async def report(self, timeout: float) -> Report:
        async with asyncio.timeout(timeout):
            report = await self._reports.get()
        if isinstance(report, EngineGone):
            raise report
        return report

    def cpu_seconds(self, own: bool) -> float | None:
        return self._cpu.seconds(own)

    def terminate(self) -> None:
        if self._node and not self._is_left():
            self._actor.terminate()

    async def end(self, timeout: float) -> None:
        """As in WorkerProcess. The actor of a lost node is killed as soon as Ray reaches it, if it ever does."""
        self._following.cancel()
        if self._is_left():
            return
        # An actor that has not been placed answers nothing.
        if self._node:
            with suppress(EngineGone, TimeoutError):
                async with asyncio.timeout(timeout + ANSWER_SECONDS):
                    await self._actor.end(timeout)
        await self._actor.kill()

    async def _follow(self) -> None:
        """Ask for news until the worker has ended. A call is always under way, and fails when the actor dies."""
        number = 0
        try:
            while True:
                news = msgspec.msgpack.decode(await self._actor.news(number), type=WorkerNews)
                number, self._node, self._node_id = news.number, news.node, news.node_id
                if news.cpu_seconds is not None:
                    self._cpu.add(news.cpu_seconds)
                for report in news.reports:
                    self._reports.put_nowait(report)
                if news.has_ended:
                    raise EngineGone(f"the engine worker {cause(news.status)}")
        except EngineGone as error:
            self._reports.put_nowait(error)
        except (msgspec.MsgspecError, ValueError) as error:
            self._reports.put_nowait(EngineGone(f"the engine worker's Ray actor can't be understood: {error}"))


class RemoteCpuTime:
    """The CPU time of a worker on a node, as the last news had it.

    Whoever compares two values takes a worker that has used none for one that hangs. News that are late must not look
    like that, so the time in which none came counts as used.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sample: tuple[float, float] | None = None
        self._is_new = False
        self._unknown = 0.0
        self._looked_at = clock()

    def add(self, sample: tuple[float, float]) -> None:
        """Note the seconds of the worker's own process and of all its other ones."""
        self._sample, self._is_new = sample, True

    def seconds(self, own: bool) -> float | None:
        """Return the seconds of one of the two; None where none were ever measured."""
        if self._sample is None:
            return None
        now = self._clock()
        if not self._is_new:
            self._unknown += now - self._looked_at
        self._looked_at, self._is_new = now, False
        return self._sample[0 if own else 1] + self._unknown
