"""A Ray cluster whose nodes are processes of this machine, with GPUs that do not exist."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.certificates import certify
from tests.support.servers import MARK, ROOT, SCRIPTED, Program, Server, free_port, until

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
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}
OBJECT_STORE_BYTES = 80 * 1024 * 1024


class Fleet:
    """A head without resources, two nodes with a GPU each, an engine host and a web tier."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = uuid.uuid4().hex
        # Whatever the cluster starts is found by it, also when its parent has ended.
        os.environ.update(RAY, **{MARK: self._mark})
        # Ray reads the token when it is imported.
        from ray.cluster_utils import Cluster
        from ray.util import get_node_ip_address

        self._cluster = Cluster(initialize_head=True, head_node_args=_node(gpus=0))
        for _ in range(2):
            self.add_node()
        pki, address = directory / "pki", f"tls://127.0.0.1:{free_port()}"
        pki.mkdir()
        (directory / "models.toml").write_text(MODELS)
        names = ["127.0.0.1", get_node_ip_address()]
        self._host_settings = {
            **SCRIPTED, "VLLM_WSGI_ENGINE_SOCKET": address, "VLLM_WSGI_TLS": certify(pki, names, engine=True),
            "VLLM_WSGI_MODELS": str(directory / "models.toml"), "VLLM_WSGI_CLUSTER": self._cluster.address,
        }  # fmt: skip
        self.host = self.start_host()
        web = {"VLLM_WSGI_ENGINE_SOCKET": address, "VLLM_WSGI_TLS": certify(pki, ["web"], engine=False)}
        self.server = Server(directory, {**web, "VLLM_WSGI_MOVES": "2"})
        self.server.wait_until_ready(PATIENCE_SECONDS)

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
        self._cluster.add_node(**_node(gpus=1))

    def lose_node_of(self, worker: int) -> None:
        """Kill what Ray runs on the node of an engine worker, whose processes end by themselves then."""
        raylet = psutil.Process(worker).parent().ppid()
        (node,) = [each for each in self._cluster.worker_nodes if raylet in _pids(each)]
        self._cluster.remove_node(node, allow_graceful=False)

    def workers(self) -> list[int]:
        """The pids of the engine workers, the oldest first."""
        found = [each for each in psutil.process_iter() if self._is_worker(each)]
        return [each.pid for each in sorted(found, key=lambda each: each.create_time())]

    def states(self) -> list[str]:
        return [each["state"] for each in self.server.status().get("replicas", [])]

    def free_gpus(self) -> float:
        """How many GPUs nobody holds."""
        answer = httpx.get(f"{self.server.url}/api/status", timeout=60).json()
        return float(sum(node["free_gpus"] for node in answer["vllm_wsgi"]["nodes"]))

    def wait_until_whole(self) -> None:
        """Until both replicas serve, and no other engine worker is left."""
        self.wait_until(lambda: self.states() == ["ready"] * 2 and len(self.workers()) == 2, "both replicas serve")

    def wait_until(self, condition: Any, what: str) -> None:
        """Fails at once when the host or the web tier has ended."""
        until(condition, PATIENCE_SECONDS, what, self._broken)

    def stop(self) -> None:
        """Nothing of it is left."""
        self.server.stop()
        self.host.stop()
        self._cluster.shutdown()
        until(lambda: not self.workers(), PATIENCE_SECONDS, "every engine worker has ended")
        del os.environ[MARK]

    def _broken(self) -> str:
        ended = [each.output[-3000:] for each in (self.host, self.server) if each.ended()]
        return f"a program has ended:\n{ended[0]}" if ended else ""

    def _is_worker(self, process: psutil.Process) -> bool:
        try:
            return (
                WORKER in process.cmdline()
                and process.environ().get(MARK) == self._mark
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _node(gpus: int) -> dict[str, Any]:
    return {"num_cpus": gpus, "num_gpus": gpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}


def _pids(node: Any) -> list[int]:
    return [each.process.pid for processes in node.all_processes.values() for each in processes]
