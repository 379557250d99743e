"""The calls to Ray: place an actor, find those that are there, call one, and list the nodes.

In: names, resources and WorkerOptions. Out: actors and nodes. Every error of Ray's becomes an EngineGone or an
Unavailable here. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...errors import EngineGone, SettingsError, Unavailable
from ...protocol.model_info import ClusterNode

logger = logging.getLogger("vllm_wsgi.host")

# How many calls an actor answers at once: news for one host, and for another one that has just ended, and its end.
CALLS_AT_ONCE = 8
# How many characters of an error of Ray's are shown.
MAX_REASON = 200
# How long the head may take to accept a connection.
REACH_SECONDS = 10.0


class Placement(NamedTuple):
    """The GPUs and CPU cores that an actor takes from its node, and Ray's name of a node that it must run on."""

    gpus: float
    cpus: float
    node_id: str = ""


class RayActor:
    """One actor, wherever it runs."""

    def __init__(self, ray: Any, handle: Any, name: str) -> None:
        self._ray = ray
        self._handle = handle
        self.name = name

    async def news(self, after: int) -> bytes:
        """Return the actor's WorkerNews; as long as it is not placed, wait. Raises EngineGone when it has died."""
        return bytes(await self._result_of(self._handle.news.remote(after)))

    def terminate(self) -> None:
        """Ask the worker to end, without waiting."""
        self._handle.terminate.remote()

    async def end(self, seconds: float) -> None:
        """Wait until the worker has exited, for `seconds` at most, and kill the rest. Raises EngineGone."""
        await self._result_of(self._handle.end.remote(seconds))

    async def kill(self) -> None:
        """End the actor's process, and with it the worker. Its resources are free then."""
        try:
            await asyncio.to_thread(self._ray.kill, self._handle, no_restart=True)
        except Exception as error:
            logger.warning("%s can't be killed: %s", self.name, _first_line(error))

    async def _result_of(self, reference: Any) -> Any:
        """A reference is awaited as a future: a task that waits for it may be cancelled then."""
        try:
            return await asyncio.wrap_future(reference.future())
        except self._ray.exceptions.RayError as error:
            raise EngineGone(f"the engine worker's Ray actor is gone: {_last_line(error)}") from None


class RayCluster:
    """The cluster at `address`. Its actors are kept apart from those of other engine hosts by `namespace`."""

    def __init__(self, address: str, namespace: str) -> None:
        """Raises SettingsError where Ray is not installed. Nothing connects yet."""
        try:
            import ray
        except ImportError:
            raise SettingsError(
                "VLLM_WSGI_CLUSTER needs Ray, on this machine and on each node: pip install 'vllm-wsgi[ray]'"
            ) from None
        self._ray: Any = ray
        self.address = address
        self._namespace = namespace

    def connect(self, shows_output: bool = True) -> None:
        """Join the cluster, which this machine must be a node of. Raises SettingsError where that fails.

        What the actors write is written here, too, when this `shows_output`.
        """
        self._reach()
        try:
            self._ray.init(
                address=self.address, namespace=self._namespace, logging_level=logging.WARNING,
                log_to_driver=shows_output,
            )  # fmt: skip
        except Exception as error:
            # Ray raises ConnectionError, RuntimeError and others here, also where its version or Python's differs. Then
            # the lines name the versions.
            raise SettingsError(f"VLLM_WSGI_CLUSTER={self.address} can't be joined: {_joined_lines(error)}") from None

    def leave(self) -> None:
        """End the connection to the cluster. Nothing may be asked of it any more."""
        self._ray.shutdown()

    def _reach(self) -> None:
        """Raise SettingsError where nothing listens: Ray itself would try for many minutes."""
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdecimal():
            raise SettingsError(f"VLLM_WSGI_CLUSTER={self.address} is not of the form host:port")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise SettingsError(f"VLLM_WSGI_CLUSTER={self.address} can't be reached: {error}") from None

    async def place(self, name: str, needs: Placement, options: bytes, ports: tuple[int, int], cache: str) -> RayActor:
        """Have an actor started on a node that has what it needs, as soon as there is one. Raises Unavailable."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from .actor import WorkerActor

        strategy = NodeAffinitySchedulingStrategy(needs.node_id, soft=False) if needs.node_id else "SPREAD"
        actor_class = self._ray.remote(WorkerActor).options(
            name=name, namespace=self._namespace, lifetime="detached", max_restarts=0, max_task_retries=0,
            num_gpus=needs.gpus, num_cpus=needs.cpus, max_concurrency=CALLS_AT_ONCE, scheduling_strategy=strategy,
        )  # fmt: skip
        try:
            handle = await asyncio.to_thread(actor_class.remote, options, ports, cache)
        except Exception as error:
            raise Unavailable(f"the cluster can't place an engine worker: {_first_line(error)}") from None
        return RayActor(self._ray, handle, name)

    def names(self) -> list[str]:
        """Return the names of all actors of the namespace. Raises Unavailable."""
        try:
            return [str(name) for name in self._ray.util.list_named_actors()]
        except Exception as error:
            raise Unavailable(f"the cluster can't be asked: {_first_line(error)}") from None

    def find(self, name: str) -> RayActor | None:
        """Return the actor with this name; None where it is gone."""
        try:
            return RayActor(self._ray, self._ray.get_actor(name, self._namespace), name)
        except ValueError:
            return None

    def nodes(self) -> list[ClusterNode]:
        """Return the nodes that are alive. Raises Unavailable."""
        try:
            nodes = self._ray.nodes()
            # The public functions count all nodes together, and those of the state API need Ray's dashboard.
            free = self._ray._private.state.available_resources_per_node()
            draining = self._ray._private.state.state.get_draining_nodes()
        except Exception as error:
            raise Unavailable(f"the cluster can't be asked: {_first_line(error)}") from None
        return [
            ClusterNode(
                id=node["NodeID"], address=node["NodeManagerAddress"], name=node["NodeManagerHostname"],
                gpus=node["Resources"].get("GPU", 0.0), free_gpus=free.get(node["NodeID"], {}).get("GPU", 0.0),
                cpus=node["Resources"].get("CPU", 0.0), draining=node["NodeID"] in draining,
            )
            for node in nodes if node["Alive"]
        ]  # fmt: skip

    def run_on(
        self, node_ids: Sequence[str], work: Callable[[bytes], bytes], argument: bytes, seconds: float
    ) -> dict[str, bytes | Unavailable]:
        """Run `work` on each of the nodes, for `seconds` at most. Return each one's answer, or why there is none.

        It needs no GPU and no CPU, so that it also runs on a node that has none free.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self._ray.remote(work)
        references = {
            node: task.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(argument)
            for node in node_ids
        }
        self._ray.wait([*references.values()], num_returns=len(references), timeout=seconds)
        return {node: self._answered(reference, seconds) for node, reference in references.items()}

    def _answered(self, reference: Any, seconds: float) -> bytes | Unavailable:
        """The answer of a task that has been waited for, or the reason for which there is none."""
        try:
            return bytes(self._ray.get(reference, timeout=0))
        except self._ray.exceptions.GetTimeoutError:
            return Unavailable(f"does not answer within {seconds:g} seconds")
        except Exception as error:
            # Also what was raised on the node, as the error of an import.
            return Unavailable(f"can't be asked: {_last_line(error)}")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text; Ray's have many."""
    return _lines(error)[0][:MAX_REASON]


def _last_line(error: Exception) -> str:
    """Return the last line of an error's text, which says why an actor has died."""
    return _lines(error)[-1][:MAX_REASON]


def _joined_lines(error: Exception) -> str:
    """Return all lines of an error's text as one."""
    return " ".join(line.strip() for line in _lines(error))[: 2 * MAX_REASON]


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
