"""Where engine workers run: the seam between the supervisors, which want a worker, and what can start one.

`local_workplace` starts child processes of the host, and `engine/cluster` starts workers on the nodes of a cluster. A
supervisor never knows which workplace it has.
"""

from __future__ import annotations

from typing import Protocol

from ...models.model import Model
from ...protocol.reports import Report


class WorkerProcess(Protocol):
    """An engine worker that was started. It listens at `path` unless its Ready names an address."""

    @property
    def path(self) -> str: ...

    @property
    def place(self) -> str:
        """The node on which it runs; empty on the host's own machine, and as long as no node has room."""

    @property
    def must_leave(self) -> bool:
        """Whether its node is about to be taken away, so that it should serve on another one."""

    async def report(self, timeout: float) -> Report:
        """Return the next report.

        Raises EngineGone when the worker has ended, and TimeoutError when it reports nothing for `timeout` seconds.
        """

    def cpu_seconds(self, own: bool) -> float | None:
        """Return the CPU time of the worker's `own` process, or of all its other ones; None where it is not known."""

    def terminate(self) -> None:
        """Ask the worker to end. Its requests get an error, with which they move to another engine."""

    async def end(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the worker to exit, and leave nothing of it behind."""


class Workplace(Protocol):
    """Starts engine workers."""

    async def start(self, model: Model, replica: int) -> WorkerProcess:
        """Start the worker of the replica with this number. Raises OSError and Unavailable."""
