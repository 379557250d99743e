"""A real engine host whose engine workers are made up: `python -m bench.scale.host`, with the settings of a host.

The control socket, the routing, the supervisors and the counts are those of the product. Only the workers are replaced,
by what a supervisor sees of one: its Ready, and a Pulse each second, which is decoded as from a lifeline.
"""

from __future__ import annotations

import asyncio
import itertools

from service.config import Settings
from service.engine.host.host import Host
from service.models.model import Model
from service.protocol.reports import Pulse, Ready, Report
from service.protocol.wire import Unpacker, decode_report, pack

PULSE_SECONDS = 1.0
# The pulses of the workers are spread over the second, as those of workers on many machines are.
PHASES = 997
RUNNING = 100


class MadeUpProcess:
    """A worker that is ready at once and has the same number of requests in each pulse."""

    place = ""
    must_leave = False

    def __init__(self, number: int) -> None:
        # Web workers would connect there; the generator of this benchmark asks the host alone.
        self.path = f"tcp://127.0.0.1:{20_000 + number}"
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + number % PHASES / PHASES * PULSE_SECONDS
        self._unpacker = Unpacker()
        self._pulse = pack(Pulse(RUNNING, 0, number))
        self._is_ready = False

    async def report(self, timeout: float) -> Report:
        if not self._is_ready:
            self._is_ready = True
            return Ready(4096, "cpu", 0)
        self._due += PULSE_SECONDS
        await asyncio.sleep(max(0.0, self._due - self._loop.time()))
        (payload,) = self._unpacker.feed(self._pulse)
        report: Report = decode_report(payload)
        return report

    def cpu_seconds(self, own: bool) -> float | None:
        return None

    def terminate(self) -> None:
        """There is nothing to end."""

    async def end(self, timeout: float) -> None:
        """There is nothing to wait for."""


class MadeUpWorkplace:
    """Starts workers that are no processes."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def start(self, model: Model, replica: int) -> MadeUpProcess:
        return MadeUpProcess(next(self._numbers))


def main() -> None:
    host = Host(Settings.from_env(), has_parent=True)
    host._workplace = MadeUpWorkplace()
    asyncio.run(host.run())


if __name__ == "__main__":
    main()
