"""The Ray actor on a node: it starts an engine worker as its child process, and passes its reports on.

In: WorkerOptions, and what the engine host asks. Out: a worker that listens at an address of the node, and WorkerNews.
Ray runs this class in a process of its own, whose methods it calls in several threads. The worker ends with the actor,
also when the actor gets a SIGKILL or the node loses the cluster.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from ...protocol.reports import LoadFailed, WorkerOptions
from ...protocol.wire import Unpacker, decode_report
from ...transport.address import TCP, TLS, Address, parse_address
from ...version import module
from .. import cpu_time
from ..worker_launch import worker_environment
from .news import LatestReports

# How long an answer waits for news: a call that never returned could not be distinguished from one that is lost.
NEWS_SECONDS = 0.5
# The CPU time is measured once a pulse is this late; reading all of /proc costs milliseconds.
LATE_SECONDS = 1.5
# Without an engine host the worker serves on for this long, which is as long as web workers remember where it is. Then
# it ends as soon as it is idle, and its GPUs are free.
ABANDONED_SECONDS = 600.0
LOOK_SECONDS = 5.0
# How long a worker may take to exit once it was killed.
KILL_SECONDS = 10.0
# What vLLM hands to its own processes on other nodes, beside the variables whose names begin with VLLM_ or HF_.
COPIED = ("TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_CPP_LOG_LEVEL")
# How many threads OpenMP has.
THREADS = "OMP_NUM_THREADS"


class WorkerActor:
    """The options have no address yet: the worker listens at the node's own, at one of the `ports`.

    `cache` is the directory for what is compiled.
    """

    def __init__(self, options: bytes, ports: tuple[int, int], cache: str) -> None:
        self._options = msgspec.json.decode(options, type=WorkerOptions)
        self._ports = ports
        self._node, self._node_id, cluster = _node()
        # vLLM's own guess of its address may be that of another network, which Ray's nodes are not known by. It joins
        # the cluster itself for a model over several nodes.
        ours = {"VLLM_HOST_IP": self._node, "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY": ",".join(COPIED)}
        self._environment = ours | worker_environment(Path(cache)) | {"RAY_ADDRESS": cluster}
        if not _is_set_on_node(THREADS):
            # Ray has set it, to the CPUs that the actor holds. vLLM would take that for the operator's choice.
            self._environment.pop(THREADS, None)
        self._latest = LatestReports()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_at = time.monotonic()
        # The kernel ends the worker when the thread that started it ends, so that one does nothing else.
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run, self._end_when_abandoned)]
        for thread in self._threads:
            thread.start()

    def news(self, after: int) -> bytes:
        """Return the WorkerNews after the report with this number, at once or as soon as there are any."""
        self._asked_at = time.monotonic()
        news = self._latest.after(after, NEWS_SECONDS)
        here = {"node": self._node, "node_id": self._node_id, "cpu_seconds": self._cpu_seconds()}
        return msgspec.msgpack.encode(msgspec.structs.replace(news, **here))

    def terminate(self) -> None:
        """Ask the worker to end."""
        if self._process is not None:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait up to `seconds` for the worker to exit, and kill its whole session."""
        self._latest.wait_for_end(seconds)
        self._kill()
        self._latest.wait_for_end(KILL_SECONDS)

    def _run(self) -> None:
        """Start the worker, and read its reports until it exits."""
        try:
            lifeline = self._start()
        except Exception as error:
            # Whatever it is: a host that got no answer would wait for the load time-out.
            self._latest.add(LoadFailed(f"the engine worker can't be started on {self._node}: {error}"))
            self._latest.end(None)
            return
        assert self._process is not None
        with lifeline:
            try:
                with suppress(OSError):
                    self._read(lifeline)
            except ValueError as error:
                failure = f"the engine worker on {self._node} sent a report that can't be read: {error}"
                self._latest.add(LoadFailed(failure))
                # Before the lifeline closes, at which the worker would exit by itself.
                self._kill()
        self._latest.end(self._process.wait())
        self._kill()

    def _read(self, lifeline: socket.socket) -> None:
        """Keep each report until the worker closes its end. Raises ValueError for one that can't be decoded."""
        unpacker = Unpacker()
        while data := lifeline.recv(1 << 16):
            for payload in unpacker.feed(data):
                self._latest.add(decode_report(payload))

    def _start(self) -> socket.socket:
        """Return our end of the worker's lifeline. Raises OSError, and BadRequest for an address that needs TLS."""
        address = Address(TLS if self._options.tls else TCP, self._node, *self._ports)
        parse_address(str(address))
        ours, theirs = socket.socketpair()
        options = msgspec.structs.replace(
            self._options, socket=str(address), lifeline=theirs.fileno(), parent=os.getpid()
        )
        with ExitStack() as failed, theirs:
            failed.enter_context(ours)
            self._process = subprocess.Popen(
                [sys.executable, "-m", module("engine.worker.process"), msgspec.json.encode(options).decode()],
                pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL, env=self._environment,
                # Where our package is: Ray starts its processes anywhere.
                cwd=Path(__file__).resolve().parents[3],
            )  # fmt: skip
            failed.pop_all()
        return ours

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _cpu_seconds(self) -> tuple[float, float] | None:
        if self._process is None or self._latest.pulse_age < LATE_SECONDS:
            return None
        own, others = cpu_time.of_process(self._process.pid), cpu_time.of_children(self._process.pid)
        return None if own is None or others is None else (own, others)

    def _end_when_abandoned(self) -> None:
        """End the actor, and with it the worker, when no host has asked for news for a long time."""
        while time.monotonic() - self._asked_at < ABANDONED_SECONDS or self._latest.is_busy:
            time.sleep(LOOK_SECONDS)
        self.terminate()
        self.end(KILL_SECONDS)
        os._exit(0)


def _node() -> tuple[str, str, str]:
    """Return the address of this node, Ray's name of it, and the address at which this node reaches the cluster.

    The engine host may have another one: it often is on the head's machine.
    """
    import ray

    context = ray.get_runtime_context()
    return str(ray.util.get_node_ip_address()), str(context.get_node_id()), str(context.gcs_address)


def _is_set_on_node(name: str) -> bool:
    """Return whether a variable is set for all that Ray runs on this node; True where that can't be seen."""
    try:
        environment = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return True
    return any(each.startswith(f"{name}=".encode()) for each in environment.split(b"\0"))
