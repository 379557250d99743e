"""Where engine workers run when there is a cluster: on its nodes, one actor for each.

In: models and replicas. Out: workers that run already, for an engine host that was started anew, or new ones. Ray
chooses the node. Back-off, keep-alive and eviction are the engine host's, as on one machine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ...config import Settings
from ...errors import EngineGone, ServiceError, SettingsError, Unavailable
from ...models.model import Model
from ...protocol.model_info import ClusterNode
from ...protocol.reports import WorkerOptions
from ..worker_launch import compile_cache, worker_options
from .names import ReplicaKey, key_of, model_of, new_name, replica_key
from .ray_cluster import Placement, RayCluster
from .remote_process import Actor, RemoteProcess

logger = logging.getLogger("vllm_wsgi.host")

# How often the nodes are looked at.
LOOK_SECONDS = 2.0
# How long a worker that no model needs may take to end.
STOP_SECONDS = 20.0
# With these vLLM takes its GPUs from Ray itself, on any nodes, and the actor must not hold them.
RAY_BACKENDS = ("distributed_executor_backend", "data_parallel_backend")
NO_ROOM = Placement(0, 0)


class Cluster(Protocol):
    """The part of RayCluster that the workplace uses."""

    def connect(self) -> None: ...

    async def place(self, name: str, needs: Placement, options: bytes, ports: tuple[int, int], cache: str) -> Actor: ...

    def names(self) -> list[str]: ...

    def find(self, name: str) -> Actor | None: ...

    def nodes(self) -> list[ClusterNode]: ...


class ClusterWorkplace:
    """Starts engine workers on the cluster, and finds those that an engine host before this one has left."""

    def __init__(self, settings: Settings, cluster: Cluster | None = None) -> None:
        """Raises SettingsError where Ray is not installed."""
        self._settings = settings
        # The control socket is what tells two engine hosts apart, and stays when one is started anew.
        self._cluster = cluster or RayCluster(settings.cluster, f"vllm-wsgi:{settings.engine_socket}")
        # Two models with other numbers of replicas may have the same weights, so several workers may have one key.
        self._found: dict[ReplicaKey, list[str]] = defaultdict(list)
        self._taken: Counter[ReplicaKey] = Counter()
        self._is_left = False
        self.nodes: Sequence[ClusterNode] = ()
        self._draining: frozenset[str] = frozenset()

    def connect(self) -> None:
        """Join the cluster, and look which workers run there. Raises SettingsError, and Unavailable."""
        self._cluster.connect()
        self.nodes = self._cluster.nodes()
        for name in self._cluster.names():
            key = key_of(name)
            if key is not None:
                self._found[key].append(name)

    def holds(self, model: Model) -> bool:
        """Return whether a worker of the model was found that nobody has taken over yet."""
        return any(self._found.get(replica_key(model, replica)) for replica in range(model.replicas))

    async def start(self, model: Model, replica: int) -> RemoteProcess:
        """As in Workplace: return the worker that runs already, else have one placed. Raises Unavailable."""
        key = replica_key(model, replica)
        while found := self._found.get(key):
            # Of two models with the same weights each takes its own.
            name = max(reversed(found), key=lambda each: model_of(each) == model.name.short)
            found.remove(name)
            self._taken[key] += 1
            if (actor := await asyncio.to_thread(self._cluster.find, name)) is not None:
                logger.info("%s: takes over the engine worker that runs already", model_of(name))
                return self._process(actor)
            self._taken[key] -= 1
        needs, options = self._placement(model), worker_options(self._settings, _at_home(model), replica, "")
        if needs.node_id:
            logger.info("%s: starts on node %s; vLLM takes its GPUs itself", model.name.short, needs.node_id)
        else:
            logger.info("%s: waits for a node with %g GPUs free", model.name.short, needs.gpus)
        actor = await self._cluster.place(
            new_name(model, replica), needs, msgspec.json.encode(_anywhere(options)),
            self._settings.engine_ports, str(compile_cache(self._settings).absolute()),
        )  # fmt: skip
        return self._process(actor)

    async def end_unneeded(self, models: Sequence[Model]) -> None:
        """End the workers that were found and that none of the models needs any more."""
        engines = {model.engine: model for model in models}.values()
        needed = Counter(replica_key(model, replica) for model in engines for replica in range(model.replicas))
        named, unneeded = {model.name.short for model in models}, []
        for key, names in self._found.items():
            # Of two workers of one replica the first one was given up.
            names.sort(key=lambda name: model_of(name) in named)
            surplus = max(0, len(names) + self._taken[key] - needed[key])
            unneeded += names[:surplus]
            del names[:surplus]
        for name in unneeded:
            if (actor := await asyncio.to_thread(self._cluster.find, name)) is not None:
                logger.info("%s: no model needs this engine worker any more; it is ended", name)
                await _end(actor)

    async def watch(self, changed: Callable[[float], None]) -> None:
        """Look at the nodes for as long as the host lives; `changed` gets the number of all their GPUs."""
        while True:
            changed(sum(node.gpus for node in self.nodes))
            await asyncio.sleep(LOOK_SECONDS)
            try:
                nodes = await asyncio.to_thread(self._cluster.nodes)
            except ServiceError as error:
                logger.error("%s", error.message)
                continue
            _log_changes(self.nodes, nodes)
            self.nodes = nodes
            self._draining = frozenset(node.id for node in nodes if node.draining)

    def has_room(self, model: Model) -> bool:
        """Return whether a node that stays could take one more worker of the model now.

        It can't be said of a model whose GPUs vLLM takes from Ray itself.
        """
        needs = needs_of(model)
        if needs == NO_ROOM:
            return False
        return any(node.free_gpus >= needs.gpus and node.cpus >= needs.cpus for node in self.nodes if not node.draining)

    def leave(self) -> None:
        """From now on workers are not ended: they go on without this host, and the next one takes them over."""
        self._is_left = True

    def _placement(self, model: Model) -> Placement:
        """Return what the node of a new worker must have.

        A worker whose GPUs vLLM takes from Ray itself needs none. It runs beside some of them all the same: vLLM finds
        no device on a machine without one, and its first data-parallel rank runs on the node of the worker. Raises
        Unavailable where no node has GPUs.
        """
        needs = needs_of(model)
        if needs != NO_ROOM:
            return needs
        nodes = [node for node in self.nodes if node.gpus]
        if not nodes:
            raise Unavailable("no node of the cluster has a GPU")
        return needs._replace(node_id=max(nodes, key=lambda node: (not node.draining, node.free_gpus)).id)

    def _process(self, actor: Actor) -> RemoteProcess:
        return RemoteProcess(actor, lambda: self._is_left, lambda node_id: node_id in self._draining)


def check_models(models: Sequence[Model]) -> None:
    """Raise SettingsError for a model that names GPUs, which Ray hands out."""
    for model in models:
        if model.devices:
            raise SettingsError(
                f'models."{model.name.short}".devices: Ray chooses the GPUs with VLLM_WSGI_CLUSTER; give their number '
                "in `gpus` instead"
            )


def needs_of(model: Model) -> Placement:
    """Return what the node of a replica must have."""
    if any(model.engine_args.get(backend) == "ray" for backend in RAY_BACKENDS):
        return NO_ROOM
    # Without a GPU, a CPU keeps two replicas from one node where another one is free.
    return Placement(model.gpus, 0 if model.gpus else 1)


def _at_home(model: Model) -> Model:
    """Return the model with paths that mean the same in any working directory."""
    source = str(Path(model.source).absolute()) if Path(model.source).is_dir() else model.source
    template = str(Path(model.template).absolute()) if model.template else ""
    return dataclasses.replace(model, source=source, template=template)


def _anywhere(options: WorkerOptions) -> WorkerOptions:
    return replace(options, tls=str(Path(options.tls).absolute()) if options.tls else "")


async def _end(actor: Actor) -> None:
    actor.terminate()
    with suppress(EngineGone, TimeoutError):
        async with asyncio.timeout(2 * STOP_SECONDS):
            await actor.end(STOP_SECONDS)
    await actor.kill()


def _log_changes(before: Sequence[ClusterNode], now: Sequence[ClusterNode]) -> None:
    for node in before:
        if node.id not in {each.id for each in now}:
            logger.warning("node %s (%s) is lost", node.address, node.name)
    for node in now:
        if node.id not in {each.id for each in before}:
            logger.info("node %s (%s) has joined with %g GPUs", node.address, node.name, node.gpus)
    for node in now:
        if node.draining and node.id not in {each.id for each in before if each.draining}:
            logger.info("node %s (%s) is drained", node.address, node.name)
