"""What is done to the oldest engine worker of a fleet, or to what it stands on."""

from __future__ import annotations

import os
import signal

from tests.cluster.ray.fleet import Fleet


def kill_worker(fleet: Fleet) -> None:
    os.kill(fleet.workers()[0], signal.SIGKILL)


def kill_actor(fleet: Fleet) -> None:
    fleet.tree(fleet.workers()[0])[0].kill()


def lose_node(fleet: Fleet) -> None:
    """There is no other node with a free GPU until one is added."""
    lost = fleet.workers()[0]
    fleet.lose_node_of(lost)
    fleet.wait_until(lambda: lost not in fleet.workers(), "the lost node's worker has ended")
    fleet.add_node()
