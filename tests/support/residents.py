"""Models in memory without engines, on a clock that a test moves."""

from __future__ import annotations

import time
from typing import Any

from service.engine.host.residency import Limits, Residency
from service.engine.host.resident import Resident
from service.protocol.model_info import EngineState


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ready(clock: Clock, name: str = "m", keep_alive: float = 10.0, **fields: Any) -> Resident:
    """A model that has just been loaded and not been used."""
    resident = Resident(name, keep_alive, clock=clock, **fields)
    resident.replicas[0].state = EngineState.READY
    return resident


def serve(resident: Resident, keep_alive: float | None = None) -> None:
    """A request from beginning to end, the first of its worker."""
    resident.send(keep_alive, submits=True)
    resident.replicas[0].report(1, 1)
    resident.replicas[0].report(1, 0)


def residency(*residents: Resident, models: int = 0, memory: int = 0) -> Residency:
    residency = Residency(Limits(models, memory), residents[0].clock if residents else time.monotonic)
    for resident in residents:
        residency.add(resident)
    return residency


def names(residents: list[Resident]) -> list[str]:
    return [resident.name for resident in residents]
