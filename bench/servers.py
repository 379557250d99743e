"""The sides of the benchmark: each starts its program, and knows its requests and its processes.

Every side has the same model and the same engine arguments. Their environments give all of them the same number of
threads and the same layout of vLLM's processes, except for the side that runs as it ships.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec

from .bare import Task
from .cpu import Processes, cores, has_bfloat16
from .load import Load
from .model import NAME

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 300.0
STOP_SECONDS = 60.0

ON_CPU = shutil.which("nvidia-smi") is None
# This server's own defaults on a CPU, and limits whose defaults in vLLM depend on how it is started.
ENGINE_ARGS: dict[str, Any] = {"max_num_seqs": 256, "max_num_batched_tokens": 4096} | (
    {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 30} if ON_CPU else {}
)
if ON_CPU and not has_bfloat16():
    # Emulated bfloat16 takes the core many times as long, and hides the front ends that are compared here.
    ENGINE_ARGS["dtype"] = "float32"
# As service/engine/vllm/build.py sets them on a machine with few cores.
LAYOUT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(max(1, cores() - 1))}
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Program:
    """A program and all that it starts, in a session of its own; their output goes to `log`."""

    def __init__(self, arguments: list[str], log: Path, env: dict[str, str], talks: bool = False) -> None:
        ours = ("MODEL", "HOST", "PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", *LAYOUT)
        kept = {
            name: each for name, each in os.environ.items() if name not in ours and not name.startswith("VLLM_WSGI_")
        }
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                arguments, cwd=ROOT, env=kept | QUIET | env, stdin=pipe, stdout=pipe if talks else output,
                stderr=output, start_new_session=True, text=True,
            )  # fmt: skip
        self.pid = self._popen.pid
        self._log = log

    def send(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def receive(self) -> str:
        """Return the next line. Raises RuntimeError, with the end of the log, when the program has ended."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError(self.trouble())
        return line.rstrip("\n")

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def trouble(self) -> str:
        return (
            "a program of the benchmark has ended, or does not answer:\n"
            + self._log.read_text(errors="replace")[-3000:]
        )

    def stop(self) -> None:
        """Send SIGTERM, and after a while SIGKILL, to the program and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Side:
    """A side of the benchmark. `name` is its name in the tables; `shift` is added to its questions' numbers."""

    name: str
    shift = 0
    program: Program
    generator: Program

    def task(self, questions: list[str], tokens: int) -> msgspec.Struct:
        """Return the task for the load generator."""
        raise NotImplementedError

    def wait_until_ready(self) -> None:
        raise NotImplementedError

    def processes(self) -> Processes:
        return Processes(self.program.pid)

    def stop(self) -> None:
        self.generator.stop()
        self.program.stop()


class Bare(Side):
    """AsyncLLM in Python, which generates its own load."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.name = "bare AsyncLLM"
        arguments = [sys.executable, "-m", "bench.bare", str(model), json.dumps(ENGINE_ARGS)]
        self.program = self.generator = Program(arguments, directory / "bare.log", LAYOUT, talks=True)

    def wait_until_ready(self) -> None:
        self.generator.receive()

    def task(self, questions: list[str], tokens: int) -> Task:
        return Task(questions, tokens)


class HttpSide(Side):
    """A server with a load generator of its own, over HTTP."""

    path: str
    dialect: str
    accept: str
    health: str

    def __init__(self, name: str, directory: Path, arguments: list[str], env: dict[str, str], port: int) -> None:
        self.name = name
        self.port = port
        label = "".join(letter for letter in name if letter.isalnum())
        self.program = Program(arguments, directory / f"{label}.log", env)
        self.generator = load_generator(directory / f"{label}-load.log")

    def body(self, question: str, tokens: int) -> dict[str, Any]:
        raise NotImplementedError

    def task(self, questions: list[str], tokens: int) -> Load:
        bodies = [json.dumps(self.body(question, tokens)) for question in questions]
        return Load(self.port, self.path, self.dialect, self.accept, bodies, tokens)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.program.ended() or time.monotonic() > end:
                raise RuntimeError(self.program.trouble())
            time.sleep(0.1)

    def _answers(self) -> bool:
        return get(self.port, self.health) is not None


class Vllm(HttpSide):
    """vLLM's own server, which is started as the module and with the arguments of `program`, before the model."""

    path, dialect, accept, health = "/v1/chat/completions", "openai", "text/event-stream", "/health"

    def __init__(
        self,
        directory: Path,
        model: Path,
        name: str = "vLLM's server",
        program: Sequence[str] = ("vllm.entrypoints.openai.api_server", "--model"),
        env: Mapping[str, str] = LAYOUT,
    ) -> None:
        port = free_port()
        arguments = [
            sys.executable, "-m", *program, str(model), "--served-model-name", NAME, "--host", "127.0.0.1",
            "--port", str(port), "--disable-uvicorn-access-log", *flags(ENGINE_ARGS),
        ]  # fmt: skip
        super().__init__(name, directory, arguments, dict(env), port)

    @classmethod
    def as_shipped(cls, directory: Path, model: Path) -> Vllm:
        """Return the server with vLLM's own layout of processes and number of threads."""
        return cls(directory, model, "vLLM's server as it ships", env={})

    def body(self, question: str, tokens: int) -> dict[str, Any]:
        return {
            "model": NAME, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": tokens,
            "chat_template_kwargs": {"enable_thinking": False},
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip


class Ours(HttpSide):
    """`gunicorn -c gunicorn.conf.py wsgi:app`."""

    path, dialect, accept, health = "/api/chat", "ollama", "application/x-ndjson", "/api/ps"

    def __init__(self, directory: Path, env: dict[str, str], name: str = "this server") -> None:
        port = free_port()
        environment = {"HOST": "127.0.0.1", "PORT": str(port), **env}
        arguments = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        super().__init__(name, directory, arguments, environment, port)

    @classmethod
    def with_vllm(cls, directory: Path, model: Path) -> Ours:
        env = {"VLLM_WSGI_MODEL": str(model), "VLLM_WSGI_ENGINE_ARGS": json.dumps(ENGINE_ARGS), **LAYOUT}
        # One client asks for more resumable streams than a key may have, one run after the other.
        env |= {"VLLM_WSGI_RESUME_STREAMS": "10000", "VLLM_WSGI_RESUME_SECONDS": "10"}
        return cls(directory, env, "this server, NDJSON")

    @classmethod
    def scripted(cls, directory: Path) -> Ours:
        """Return a server with one web worker and the scripted engine: the web tier alone."""
        env = {"VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_MODEL_NAME": NAME, "WEB_CONCURRENCY": "1"}
        # Thousands of streams are measured, so none may wait or be refused.
        env |= {"VLLM_WSGI_ENGINE_ARGS": '{"max_num_seqs": 100000}', "VLLM_WSGI_MAX_QUEUE": "0"}
        return cls(directory, env, "the web tier alone")

    def body(self, question: str, tokens: int) -> dict[str, Any]:
        return {
            "model": NAME, "messages": [{"role": "user", "content": question}], "think": False,
            "options": {"temperature": 0, "num_predict": tokens},
        }  # fmt: skip

    def _answers(self) -> bool:
        answer = get(self.port, self.health)
        return answer is not None and bool(json.loads(answer)["models"])


class OursAgain(Ours):
    """The same server, asked in another way. `shift` keeps its questions out of the engine's prefix cache."""

    def __init__(self, ours: Ours) -> None:
        self.port, self.program, self.generator = ours.port, ours.program, ours.generator

    def stop(self) -> None:
        """Leave it to the other side, which runs the server."""


class OursInEvents(OursAgain):
    """With server-sent events."""

    name, accept, shift = "this server, SSE", "text/event-stream", 256


class OursResumable(OursAgain):
    """With streams that a client may resume, which the engine worker keeps."""

    name, shift = "this server, resumable NDJSON", 512

    def body(self, question: str, tokens: int) -> dict[str, Any]:
        return super().body(question, tokens) | {"resumable": True}


def load_generator(log: Path) -> Program:
    return Program([sys.executable, "-m", "bench.load"], log, {}, talks=True)


def flags(arguments: dict[str, Any]) -> list[str]:
    """Return engine arguments as options of vLLM's command line."""
    found = []
    for name, value in arguments.items():
        found += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return found


def get(port: int, path: str) -> bytes | None:
    """Return the body of a 200, else None."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
