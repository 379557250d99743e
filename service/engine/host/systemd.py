"""What the engine host tells systemd, which started it as `Type=notify`: sd_notify(3), datagrams to NOTIFY_SOCKET.

Ready when the pinned models are; until then, that more time is needed; always, that the event loop turns. Without a
NOTIFY_SOCKET nothing is told. This module knows models by name and state only.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

# Far below any sensible WatchdogSec.
TELL_SECONDS = 1.0
# A start may take so much longer from each time that a model is seen loading.
EXTENSION_SECONDS = 60


class SystemdNotifier:
    """systemd's end of it. The variable goes, so that no child speaks in our name."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        # "@" stands for the abstract namespace (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address

    async def inform(self, states: Callable[[], Mapping[str, str]]) -> None:
        """While the host lives, where anyone listens; `states` are the pinned models', by their names (supervisor.py).

        Ready is said once, when no pinned model is loading for the first time any more, unless every one has failed.
        The start then runs into systemd's time-out, while the host tries on.
        """
        ready = False
        while self._address:
            over, lines = progress(states())
            sent = self._send(["WATCHDOG=1"] if ready else ["WATCHDOG=1", *lines])
            ready = ready or (over and sent)
            await asyncio.sleep(TELL_SECONDS)

    def alive(self) -> None:
        """The loop turns, at the end of the host's life too."""
        self._send(["WATCHDOG=1"])

    def stopping(self) -> None:
        self._send(["STOPPING=1", "STATUS=ending the engines"])

    def _send(self, lines: list[str]) -> bool:
        """Whether they went out; rather not than that the loop waits for systemd."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return False
        return True


def progress(states: Mapping[str, str]) -> tuple[bool, list[str]]:
    """Whether the start is over, and what to tell of it."""
    loading = [name for name, state in states.items() if state == "loading"]
    failing = [name for name, state in states.items() if state == "restarting"]
    if loading:
        return False, [f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}", f"STATUS=loading {', '.join(loading)}"]
    status = f"STATUS=not loaded, see the log: {', '.join(failing)}" if failing else "STATUS=serving"
    if failing and len(failing) == len(states):
        return False, [status]
    return True, ["READY=1", status]
