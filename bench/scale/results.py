"""What a run has measured and simulated, as bench/scale/results.json holds it."""

from __future__ import annotations

import msgspec

from ..results import Machine
from .check import Real
from .costs import Costs
from .simulation import Outcome


class Waiting(msgspec.Struct, frozen=True):
    """How long requests wait for a host with this many replicas, when `rate` come each second."""

    replicas: int
    rate: float
    outcome: Outcome


class ScaleResults(msgspec.Struct, frozen=True):
    """All that the page shows. `real` is beside `expected`, which the simulation says of the same."""

    date: str
    machine: Machine
    costs: Costs
    waiting: list[Waiting]
    million: Outcome
    real: Real
    expected: Outcome
