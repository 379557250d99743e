"""Whether this process shuts down, and until when its streams may run.

One state a process, since a signal is for the whole process. Our gunicorn worker begins the drain
(service/gunicorn/worker.py). Under another server, call `drain.begin(seconds)` when it receives SIGTERM.
"""

from __future__ import annotations

import math
import time

from .errors import GoingDown

# Streams end with an error record this long before the server would cut them, in seconds.
EARLY_SECONDS = 2.0


class Drain:
    """The state. `ends_at` is on the monotonic clock, and infinite while the process does not shut down."""

    def __init__(self) -> None:
        self.ends_at = math.inf

    @property
    def begun(self) -> bool:
        return self.ends_at < math.inf

    def begin(self, grace: float) -> None:
        """Refuse new requests; the server cuts open streams in `grace` seconds. Only the first call counts."""
        if not self.begun:
            self.ends_at = time.monotonic() + max(0.0, grace - EARLY_SECONDS)


drain = Drain()


def refuse_while_draining() -> None:
    """Raise GoingDown when this process shuts down."""
    if drain.begun:
        raise GoingDown
