"""A web machine and an engine machine, which know nothing of each other but an address and a CA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Apart, Place
from tests.cluster.network import Machine, Wire, why_not


class Network:
    """Three machines on one wire."""

    def __init__(self) -> None:
        self.web, self.gpu, self.stranger = machines = [
            Machine(name, number) for number, name in enumerate(("web", "gpu", "stranger"), 1)
        ]
        self._machines = machines
        self.wire = Wire(machines)

    def close(self) -> None:
        self.wire.close()
        for machine in self._machines:
            machine.close()


@pytest.fixture(scope="session")
def whole_network() -> Iterator[Network]:
    if reason := why_not():
        pytest.skip(reason)
    network = Network()
    yield network
    network.close()


@pytest.fixture
def network(whole_network: Network) -> Iterator[Network]:
    """The test itself is on the web machine, and the wire is whole at its beginning and its end."""
    with whole_network.web.inside():
        yield whole_network
    whole_network.wire.repair()


@pytest.fixture(scope="session")
def apart(whole_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """gunicorn on the web machine, an engine host on the engine machine."""
    web, gpu = whole_network.web, whole_network.gpu
    apart = Apart(tmp_path_factory.mktemp("apart"), Place(gpu.address, gpu.inside), Place(web.address, web.inside))
    yield apart
    whole_network.wire.repair()
    apart.stop()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return tmp_path
