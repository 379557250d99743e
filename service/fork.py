"""The one guard against forks: objects that must begin anew in a child process.

Threads, locks and sockets stay with the parent. In: objects that have some. Out: `renew()` is called on each of them in
the child, before other code runs there. The guard holds the objects weakly, so that it keeps none of them alive.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object with threads, locks or sockets of its own."""

    def renew(self) -> None:
        """Forget them. Must not wait for any of them: their owners do not run in the child."""


_objects: WeakSet[Renewable] = WeakSet()


def renew_after_fork(renewable: Renewable) -> None:
    """Have the object renewed in each child process that is forked from now on."""
    _objects.add(renewable)


def _renew_all() -> None:
    for renewable in list(_objects):
        renewable.renew()


os.register_at_fork(after_in_child=_renew_all)
