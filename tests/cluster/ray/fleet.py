"""A Ray cluster whose nodes are processes of this machine, with GPUs that do not exist."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.certificates import certify
from tests.support.processes import command, lives
from tests.support.servers import HOPELESS_RESTARTS, MARK, ROOT, SCRIPTED, Program, Server, free_port
from tests.support.waiting import until

PATIENCE_SECONDS = 180.0
WORKER = "service.engine.worker.process"
MODELS = f"""
[models.demo]
source = "{ROOT}/models/demo"
pinned = true
replicas = 2
gpus = 1
"""
# Ray reports no use of itself, and whoever joins needs the token.
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2,
    # A node that stands still is lost after 20 seconds, and not after a minute. A busy machine answers within them.
    "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "4",
    # How long all others wait for a head that is away, in seconds.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
}  # fmt: skip
OBJECT_STORE_BYTES = 80 * 1024 * 1024
# Nodes have addresses of their own, as machines have. All of 127.0.0.0/8 is this machine.
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 33)]


class Fleet:
    """A head without resources, two nodes with a GPU each, an engine host and a web tier.

    The engine host has the `settings` and serves `models`. Each process on the nodes has the `variables`. `patience` is
    how long what is waited for may take, in seconds.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] = SCRIPTED,
        models: str = MODELS,
        variables: Mapping[str, str] | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._directory = directory
        self._patience = patience
        self._mark = uuid.uuid4().hex
        self._started: set[psutil.Process] = set()
        # Whatever the cluster starts is found by the mark, also when its parent has ended.
        self._variables = {**RAY, **(variables or {}), MARK: self._mark}
        self._replaced = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)
        self._redis = Redis(directory) if shutil.which("redis-server") else None
        # Ray reads the token when it is imported.
        from ray.cluster_utils import Cluster
        from ray.util import get_node_ip_address

        self._head_port, self._addresses = free_port(), iter(ADDRESSES)
        self._cluster = Cluster()
        self.start_head()
        for _ in range(2):
            self.add_node()
        pki, address = directory / "pki", f"tls://127.0.0.1:{free_port()}"
        pki.mkdir()
        (directory / "models.toml").write_text(models)
        names = ["127.0.0.1", get_node_ip_address(), *ADDRESSES]
        self._host_settings = {
            **settings, "VLLM_WSGI_ENGINE_SOCKET": address, "VLLM_WSGI_TLS": certify(pki, names, engine=True),
            "VLLM_WSGI_MODELS": str(directory / "models.toml"), "VLLM_WSGI_CLUSTER": self._cluster.address,
        }  # fmt: skip
        self.host = self.start_host()
        web = {"VLLM_WSGI_ENGINE_SOCKET": address, "VLLM_WSGI_TLS": certify(pki, ["web"], engine=False)}
        self.server = Server(directory, {**web, "VLLM_WSGI_MOVES": "2"})
        self.server.wait_until_serving(patience)

    def start_head(self) -> None:
        """Start the head, at the address of the one before it. With Redis it finds what that one knew."""
        redis = {"RAY_REDIS_ADDRESS": self._redis.address} if self._redis else {}
        os.environ.update(redis)
        try:
            self._cluster.add_node(gcs_server_port=self._head_port, **_node(gpus=0))
        finally:
            for name in redis:
                del os.environ[name]

    def lose_head(self) -> None:
        """Kill what Ray runs on the machine of the head, beside the engine host."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def start_host(self) -> Program:
        """Start an engine host, which must be the only one."""
        self.host = Program([sys.executable, "-m", "service.engine.host"], self._directory, self._host_settings)
        return self.host

    def check(self, **settings: str) -> tuple[int, list[str]]:
        """Return the exit status of `vllm-wsgi check` on the engine host's machine, and its lines without padding."""
        command = [sys.executable, "-m", "service", "check"]
        environment = {**os.environ, **self._host_settings, **settings}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return ended.returncode, [" ".join(line.split()) for line in ended.stdout.splitlines()]

    def add_node(self) -> None:
        self._cluster.add_node(node_ip_address=next(self._addresses), **_node(gpus=1))

    def lose_node_of(self, worker: int) -> None:
        """Kill what Ray runs on the node of an engine worker, whose processes end by themselves then."""
        self._cluster.remove_node(self._node_of(worker), allow_graceful=False)

    def lose_node_without(self, worker: int) -> None:
        """Kill what Ray runs on a node, but not on that of the engine worker."""
        other = next(each for each in self._cluster.worker_nodes if each is not self._node_of(worker))
        self._cluster.remove_node(other, allow_graceful=False)

    @contextmanager
    def still(self, worker: int) -> Iterator[None]:
        """The node of an engine worker stands still: every process of it, the worker included."""
        node = self._node_of(worker)
        roots = [psutil.Process(pid) for pid in _pids(node)]
        processes = [each for root in roots for each in (root, *root.children(recursive=True))]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.Error):
                    process.resume()
            # Ray has given the node up meanwhile. Its processes are ours to reap.
            self._cluster.remove_node(node, allow_graceful=False)

    def drain_node_of(self, worker: int) -> Any:
        """Have the node of an engine worker drained, as before its machine is stopped, and return it."""
        node = self._node_of(worker)
        command = [
            str(Path(sys.executable).with_name("ray")), "drain-node", "--address", self._cluster.address,
            "--node-id", node.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message", "a test", "--deadline-remaining-seconds", "3600",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        self.wait_until(lambda: any(each["draining"] for each in self._nodes()), "the engine host knows it")
        return node

    def stop_node(self, node: Any) -> None:
        """Stop what Ray runs on a node, as its unit does."""
        self._cluster.remove_node(node, allow_graceful=True)

    def _node_of(self, worker: int) -> Any:
        raylet = psutil.Process(worker).parent().ppid()
        (node,) = [each for each in self._cluster.worker_nodes if raylet in _pids(each)]
        return node

    def tree(self, worker: int) -> list[psutil.Process]:
        """Return the actor of an engine worker, the worker, and all that it has started."""
        self.remember()
        actor = psutil.Process(psutil.Process(worker).ppid())
        return [actor, *actor.children(recursive=True)]

    def core(self, worker: int) -> psutil.Process:
        """Return the process of vLLM's core that an engine worker has started."""
        return next(each for each in self.tree(worker) if "EngineCore" in " ".join(command(each)))

    def running_on_nodes(self, title: str) -> list[psutil.Process]:
        """Return what the nodes' Ray has started and whose title holds this one, at most one for each node."""
        raylets = [psutil.Process(pid) for node in self._cluster.worker_nodes for pid in _pids(node)]
        found = ((each for each in raylet.children() if title in " ".join(command(each))) for raylet in raylets)
        return [first[0] for each in found if (first := list(itertools.islice(each, 1)))]

    def nodes(self) -> int:
        """How many nodes with GPUs the engine host knows."""
        return sum(node["gpus"] > 0 for node in self._nodes())

    def workers(self) -> list[int]:
        """The pids of the engine workers, the oldest first."""
        found = [each for each in psutil.process_iter() if self._is_worker(each)]
        return [each.pid for each in sorted(found, key=lambda each: each.create_time())]

    def states(self) -> list[str]:
        return [each["state"] for each in self.server.status().get("replicas", [])]

    def running(self, model: str) -> int:
        """How many requests run in the engine of the model."""
        models = {each["name"]: each for each in self._status()["models"]}
        return int(models[f"{model}:latest"]["running"])

    def free_gpus(self) -> float:
        """How many GPUs nobody holds."""
        return float(sum(node["free_gpus"] for node in self._nodes()))

    def wait_until_whole(self) -> None:
        """Until both replicas serve, and no other engine worker is left."""
        self.wait_until(lambda: self.states() == ["ready"] * 2 and len(self.workers()) == 2, "both replicas serve")
        self.remember()

    def wait_until(self, condition: Any, what: str, unless: Callable[[], str] = lambda: "") -> None:
        """Fails at once when it is hopeless, also for the reason that `unless` returns."""
        hopeless = self.hopeless()
        until(condition, self._patience, what, lambda: hopeless() or unless(), pause=0.1)

    def hopeless(self) -> Callable[[], str]:
        """Return an `unless`: the host or the web tier has ended, or engines fail again and again from now on."""
        before = len(self.host.engine_failures())

        def unless() -> str:
            for program in (self.host, self.server):
                if program.ended():
                    return f"a program has ended:\n{program.output[-3000:]}"
            new = self.host.engine_failures()[before:]
            return f"the engines fail: {new}" if len(new) >= HOPELESS_RESTARTS else ""

        return unless

    def stop(self) -> None:
        """Nothing of it is left."""
        self.remember()
        self.server.stop()
        self.host.stop()
        self._cluster.shutdown()
        if self._redis:
            self._redis.stop()
        until(lambda: not self.workers(), self._patience, "every engine worker has ended")
        for name, value in self._replaced.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        wait_until_gone(self._started)

    def remember(self) -> None:
        """Note what runs now, so that `stop` sees whether any of it is left."""
        self._started.update(psutil.Process().children(recursive=True))

    def _nodes(self) -> list[dict[str, Any]]:
        return list(self._status()["nodes"])

    def _status(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.server.url}/api/status", timeout=60).json()
        return dict(answer["vllm_wsgi"])

    def _is_worker(self, process: psutil.Process) -> bool:
        try:
            return (
                WORKER in process.cmdline()
                and process.environ().get(MARK) == self._mark
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


class Redis(Program):
    """A Redis for what the head knows."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        super().__init__(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], directory)
        until(lambda: "Ready to accept" in self.output, PATIENCE_SECONDS, "Redis is ready", self._trouble)

    def _trouble(self) -> str:
        return self.output[-3000:] if self.ended() else ""


def wait_until_gone(processes: Iterable[psutil.Process]) -> None:
    """Until none of them lives."""

    def left() -> list[str]:
        return [f"{each.pid} {' '.join(command(each))}" for each in processes if each.is_running() and lives(each)]

    try:
        until(lambda: not left(), PATIENCE_SECONDS, "the processes have ended", pause=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}; left: {left()}") from None


def _node(gpus: int) -> dict[str, Any]:
    return {"num_cpus": gpus, "num_gpus": gpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}


def _pids(node: Any) -> list[int]:
    return [each.process.pid for processes in node.all_processes.values() for each in processes]
