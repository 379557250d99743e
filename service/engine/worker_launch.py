"""The options and the environment with which an engine worker is started, wherever it runs.

In: settings and a model. Out: WorkerOptions, and variables for the worker's process. Starts nothing itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..config import PREFIX, Settings
from ..models.library import store_directory
from ..models.model import Model
from ..protocol.reports import WorkerOptions


def worker_options(
    settings: Settings, model: Model, replica: int, address: str, lifeline: int = -1, parent: int = 0
) -> WorkerOptions:
    """Return the options of the replica with this number, which listens at `address`.

    `lifeline` and `parent` are known only where the worker is started.
    """
    return WorkerOptions(
        socket=address,
        lifeline=lifeline,
        parent=parent,
        engine=settings.engine,
        model=model.source,
        engine_args=model.engine_args,
        tool_parser=model.tool_parser,
        reasoning_parser=model.reasoning_parser,
        template=model.template,
        max_queue=settings.max_queue,
        name=model.name.short,
        traces=settings.traces or "",
        replica=replica if model.replicas > 1 else None,
        tls=settings.tls,
    )


def compile_cache(settings: Settings) -> Path:
    """Return the directory for what vLLM, torch and Triton compile."""
    return store_directory(settings.store) / "cache"


def worker_environment(cache: Path) -> dict[str, str]:
    """Return the environment of a worker: quiet and private unless the operator sets the same variables.

    What vLLM, torch and Triton compile is kept under `cache`. VLLM_WSGI_* is left out, since vLLM takes each variable
    that begins with VLLM_ for one of its own, misspelt.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # vLLM must not write its metrics into the files of the application that started the host.
    kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torchinductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
        # The web worker sends its traces in the same way.
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "vllm-wsgi-engine",
    }
    return defaults | kept
