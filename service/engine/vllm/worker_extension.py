"""The first steps of the process that runs the model, before vLLM runs anything in it.

vLLM imports this module in each of its workers, by the name in `worker_extension_cls`, before it makes the worker.
"""

from __future__ import annotations

import torch

from .resume import ResumingWorker


class WorkerExtension(ResumingWorker):
    """vLLM adds this class to the bases of its worker. It has no methods: only the import of its module counts."""


def allow_amx() -> None:
    """Ask the kernel for AMX tiles, which Linux gives a process on request only (`arch_prctl(2)`).

    oneDNN asks in its first large product, but vLLM's CPU attention uses the tiles without asking: on an Intel Xeon
    since 2023, a short first request ended the process with SIGILL.
    """
    ask = getattr(torch.cpu, "_init_amx", None)
    if ask is not None:
        ask()


allow_amx()
