"""Decide which models stay in memory and which are evicted: keep-alive, pins, limits, the least recently used first.

Policy only: the host reports what happens and asks what is to be done. No tasks, no sockets; the clock is handed in.
Only models that have changed are looked at again, and of each model no more than its totals.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from ...errors import Unavailable
from ...models.model import GPU_PARTS
from .resident import Clock, Resident


@dataclass(frozen=True)
class Limits:
    """How many models may be loaded at once, and how many bytes they may take together; no limit when 0.

    `gpus` are those of the whole cluster. Ray decides whether they are on the right nodes.
    """

    models: int = 0
    memory: int = 0
    gpus: float = math.inf

    def hold(self, residents: list[Resident]) -> bool:
        return not any(self.exceeded(residents))

    def exceeded(self, residents: list[Resident]) -> tuple[bool, bool, bool]:
        """Return whether they are too many models, take too much memory, and too many GPUs."""
        memory = sum(each.memory for each in residents)
        gpus = round(sum(each.gpus for each in residents) * GPU_PARTS) / GPU_PARTS
        return 0 < self.models < len(residents), 0 < self.memory < memory, gpus > self.gpus


class Residency:
    """All models, and the limits that they share."""

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        self._residents: list[Resident] = []
        self._limits = limits
        self._clock = clock
        # Those that have changed since they were last looked at.
        self._touched: set[Resident] = set()
        # When each of the models that may be overdue at some time is to be looked at again.
        self._due_at: dict[Resident, float] = {}
        # The memory of each model that stays, and whether all of them fit; None where that is not known.
        self._staying: dict[Resident, int] = {}
        self._fit: bool | None = None

    def add(self, resident: Resident) -> None:
        resident.shares_limits = self._limits != Limits()
        self._residents.append(resident)
        self._touched.add(resident)
        resident.watch(self._touched.add)

    def remove(self, resident: Resident) -> None:
        self._residents.remove(resident)
        resident.watch(lambda resident: None)
        self._touched.discard(resident)
        self._due_at.pop(resident, None)
        self._staying.pop(resident, None)
        self._fit = None

    def limit_gpus(self, gpus: float) -> None:
        """Set how many GPUs there are."""
        if gpus != self._limits.gpus:
            self._limits = replace(self._limits, gpus=gpus)
            self._fit = None

    def has_room(self, wanted: Resident) -> bool:
        """Return whether it can be loaded now."""
        return self._limits.hold([wanted, *(each for each in self._others(wanted) if each.present)])

    def victims(self, wanted: Resident) -> list[Resident]:
        """Return the models to unload so that `wanted` fits, the least recently used first.

        The list is empty where there is room, where those that are being unloaded already make enough, and where
        unloading all that may go now would not. Raises Unavailable where it can't fit beside the pinned models.
        """
        others = [each for each in self._others(wanted) if each.staying]
        if not self._limits.hold([wanted, *(each for each in others if each.pinned)]):
            raise Unavailable(f"{wanted.name} does not fit within the server's limits beside the pinned models")
        going = self._least_used(others, [wanted])
        return going if self._limits.hold([wanted, *(each for each in others if each not in going)]) else []

    def overdue(self) -> list[Resident]:
        """Return the models whose time is up, and those to unload since a model takes more memory than was known."""
        expired = self._expired()
        if self._fit is None:
            self._fit = self._limits.hold([*self._staying])
        if self._fit:
            return expired
        return expired + self._least_used([each for each in self._staying if each not in expired], [])

    def _least_used(self, staying: list[Resident], wanted: list[Resident]) -> list[Resident]:
        """Return those of `staying` that must go for the rest and `wanted` to fit, or all that can go."""
        going: list[Resident] = []
        for each in sorted((each for each in staying if each.evictable), key=lambda each: each.used):
            stay = [*wanted, *(other for other in staying if other not in going)]
            models, memory, gpus = self._limits.exceeded(stay)
            # A model without GPUs makes no room on them.
            if models or (memory and each.memory) or (gpus and each.gpus):
                going.append(each)
        return going

    def next_due(self) -> float | None:
        """Return the seconds until one more may be overdue; None where something else must happen before."""
        self._look()
        return max(0.0, min(self._due_at.values()) - self._clock()) if self._due_at else None

    def _expired(self) -> list[Resident]:
        """Return the models whose time is up. They are looked at again, whatever becomes of them."""
        self._look()
        now = self._clock()
        reached = [resident for resident, due_at in self._due_at.items() if due_at <= now]
        self._touched.update(reached)
        return [each for each in reached if each.due() <= 0]

    def _look(self) -> None:
        """Look at the models that have changed: when they are due, and what room they take."""
        now = self._clock()
        for resident in self._touched:
            self._due_at.pop(resident, None)
            if math.isfinite(due := resident.due()):
                self._due_at[resident] = now + due
            memory = resident.memory if resident.staying else None
            if memory != self._staying.get(resident):
                self._fit = None
                self._staying.pop(resident, None)
                if memory is not None:
                    self._staying[resident] = memory
        self._touched.clear()

    def _others(self, wanted: Resident) -> list[Resident]:
        return [each for each in self._residents if each is not wanted]
