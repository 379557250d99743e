"""Report the engine host's state to systemd, which started it as `Type=notify`.

In: the pinned models' states, by name. Out: datagrams to NOTIFY_SOCKET (sd_notify(3)); none where it is not set.
The host is ready when its pinned models are. Until then it asks for more time, and always it reports its event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from ...protocol.model_info import EngineState

# Far below any sensible WatchdogSec.
REPORT_SECONDS = 1.0
# How much longer the start may take, counted from each report that a model is being loaded.
EXTENSION_SECONDS = 60


class SystemdNotifier:
    """Sends the host's state to systemd. The variable is removed, so that no child can report in the host's name."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        # "@" stands for the abstract namespace (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address

    async def inform(self, states: Callable[[], Mapping[str, EngineState]]) -> None:
        """Report for as long as the host lives; `states` returns the pinned models', by name.

        Ready is reported once, when no pinned model is loading for the first time any more. Where every one of them
        has failed it is not reported: the start runs into systemd's time-out, while the host keeps trying.
        """
        ready = False
        while self._address:
            over, lines = progress(states())
            sent = self._send(["WATCHDOG=1"] if ready else ["WATCHDOG=1", *lines])
            ready = ready or (over and sent)
            await asyncio.sleep(REPORT_SECONDS)

    def alive(self) -> None:
        """Report that the event loop turns, while the host drains."""
        self._send(["WATCHDOG=1"])

    def stopping(self) -> None:
        self._send(["STOPPING=1", "STATUS=ending the engines"])

    def _send(self, lines: list[str]) -> bool:
        """Return whether the lines were sent. The loop never waits for systemd: a full socket loses them."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return False
        return True


def progress(states: Mapping[str, EngineState]) -> tuple[bool, list[str]]:
    """Return whether the start is over, and the lines that report it."""
    loading = [name for name, state in states.items() if state is EngineState.LOADING]
    failing = [name for name, state in states.items() if state is EngineState.RESTARTING]
    if loading:
        return False, [f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}", f"STATUS=loading {', '.join(loading)}"]
    status = f"STATUS=not loaded, see the log: {', '.join(failing)}" if failing else "STATUS=serving"
    if failing and len(failing) == len(states):
        return False, [status]
    return True, ["READY=1", status]
