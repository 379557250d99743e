"""No process outlives its parent: Linux' parent-death signal, for what a SIGKILL of the parent leaves behind.

vLLM's EngineCore has no check of its own and would keep its memory for ever (vllm-project/vllm#55510).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(sig: signal.Signals = signal.SIGKILL, parent: int | None = None) -> None:
    """Have `sig` sent to this process when the thread that started it ends.

    `parent`: the process that must still be there; if it has gone already, so do we.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), sig)
