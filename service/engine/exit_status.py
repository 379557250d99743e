"""Why a process ended, in words for a log line or a client."""

from __future__ import annotations

import signal

# Hints for operators, where the name of the signal is not enough.
_LIKELY = {
    signal.SIGILL: "an instruction that this CPU does not have",
    signal.SIGKILL: "probably by the kernel's out-of-memory killer",
    signal.SIGSEGV: "a memory fault",
    signal.SIGBUS: "a memory fault, or no room left in /dev/shm",
}


def cause(status: int | None) -> str:
    """Return how a process with this exit status ended, as Python has it: a signal is negative.

    Return "ended" when the status is None, since it is not known.
    """
    if status is None:
        return "ended"
    if status >= 0:
        return f"exited with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was killed by signal {-status}"
    likely = _LIKELY.get(number)
    return f"was killed by {number.name} ({likely})" if likely else f"was killed by {number.name}"
