"""The last known location of each model: for as long as it holds, and while the engine host can't be reached.

In: each Located. Out: the last Located of a model, for a while. Engine workers behind a Unix socket end with their
engine host, so that without it their locations are worth nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..protocol.events import Located
from ..transport.address import parse_address

# How long an answer of the host is used after it was given, in seconds.
KNOWN_SECONDS = 600.0
# With so many answers that hold, those whose time is over are dropped.
MOST_HELD = 100


class Locations:
    """The last known locations of models in one process of the web tier."""

    def __init__(
        self, control: str, is_open: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`is_open` returns whether this process has an open connection to an address; `control` is the host's."""
        self._control = control
        self._is_open = is_open
        self._clock = clock
        self._known: dict[str, tuple[float, Located]] = {}
        self._holding: dict[str, tuple[float, Located]] = {}
        # By model: what wakes the requests that wait for the answer to another one's question.
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    @property
    def is_host_away(self) -> bool:
        """Whether there is no connection to the host. Reports of requests that have ended keep trying to connect."""
        return not self._is_open(self._control)

    def add(self, model: str, located: Located) -> None:
        """Keep an answer that the host has just given."""
        if located.holds:
            self._hold(model, located)
        if parse_address(located.socket).is_unix:
            return
        self._known[model] = self._clock() + KNOWN_SECONDS, located

    def _hold(self, model: str, located: Located) -> None:
        now = self._clock()
        if len(self._holding) >= MOST_HELD:
            # Clients spell a model's name in many ways.
            self._holding = {name: held for name, held in self._holding.items() if held[0] > now}
        self._holding[model] = now + located.holds, located

    def holding(self, model: str) -> Located | None:
        """Return where the model is, without a question to the host; None where that has to be asked."""
        until, located = self._holding.get(model, (0.0, None))
        if located is None or self._clock() >= until or not self._is_open(located.socket):
            return None
        return located

    def begin_question(self, model: str) -> None:
        """Note that a request asks the host where the model is."""
        self._waiting.setdefault(model, [])

    def end_question(self, model: str) -> None:
        """Wake the requests that wait for the answer. It has come, or the request that asked has been given up."""
        for wake in self._waiting.pop(model, []):
            wake()

    def await_answer(self, model: str, wake: Callable[[], None]) -> bool:
        """Have `wake` called when another request's question has ended. Return False where there is none to wait for.

        That is so where no request asks, or where the model was not loaded lately and the answer may take long.
        """
        waiting = self._waiting.get(model)
        _, located = self._holding.get(model, (0.0, None))
        if waiting is None or located is None or not self._is_open(located.socket):
            return False
        waiting.append(wake)
        return True

    def forget(self, model: str) -> None:
        """Ask for this model's location again."""
        self._holding.pop(model, None)

    def last(self, model: str, lost: list[str]) -> Located | None:
        """Return the model's last location while its engine worker is connected and not among the `lost` ones."""
        until, located = self._known.get(model, (0.0, None))
        if located is None or self._clock() >= until or located.socket in lost or not self._is_open(located.socket):
            return None
        return located

    def models(self) -> list[str]:
        """Return the models that can be asked without the host."""
        return sorted(model for model in list(self._known) if self.last(model, []) is not None)
