"""Whether this process has been told to end, and until when its streams may go on.

One state a process, since a signal is for all of it. The server tells: our gunicorn worker does (web_worker.py); under
another server, whatever is told of its SIGTERM calls `drain.begin`.
"""

from __future__ import annotations

import math
import time

from .errors import Unavailable

GOING_DOWN = "the server is going down, please try again"
# Another server, or this one's successor, is there by then.
RETRY_SECONDS = 2
# What is left so many seconds before the server would cut it ends with an error record.
EARLY_SECONDS = 2.0


class Drain:
    """`ends_at` is on the monotonic clock."""

    def __init__(self) -> None:
        self.ends_at = math.inf

    @property
    def begun(self) -> bool:
        return self.ends_at < math.inf

    def begin(self, grace: float) -> None:
        """In `grace` seconds the server cuts what is left. A second call changes nothing."""
        if not self.begun:
            self.ends_at = time.monotonic() + max(0.0, grace - EARLY_SECONDS)


drain = Drain()


def refuse_while_draining() -> None:
    """Raises Unavailable once this process has been told to end."""
    if drain.begun:
        raise Unavailable(GOING_DOWN, RETRY_SECONDS)
