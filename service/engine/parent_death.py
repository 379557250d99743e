"""End a process when its parent ends, also when the parent gets a SIGKILL (Linux' parent-death signal).

vLLM's EngineCore does not notice the end of its parent, and would keep its memory (vllm-project/vllm#55510).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(sig: signal.Signals = signal.SIGKILL, parent: int | None = None) -> None:
    """Have `sig` sent to this process when the thread that started it ends.

    `parent` is the pid of the process that must still be there. Where it has ended already, `sig` is sent at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), sig)
