"""The CPU time that a worker's processes have used, from Linux' /proc (proc_pid_stat(5)).

In: the pid of a worker, which leads a session of its own. Out: seconds, or None where /proc has no such process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# The fields after the command's name, which is in brackets and may hold blanks.
SESSION, USER_TICKS, SYSTEM_TICKS = 3, 11, 12


def of_process(pid: int) -> float | None:
    """Return the seconds that all threads of a process have used; None where /proc has no such process."""
    fields = _fields(pid)
    return _seconds(fields) if fields else None


def of_children(pid: int) -> float | None:
    """Return the seconds that all other processes of a session leader's session have used; None where it is gone."""
    if not _fields(pid):
        return None
    return sum(_seconds(fields) for other, fields in _session(pid) if other != pid)


def _session(leader: int) -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir(PROC):
        if name.isdigit() and (fields := _fields(int(name))) and fields[SESSION] == str(leader):
            yield int(name), fields


def _seconds(fields: list[str]) -> float:
    return (int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])) / TICKS_PER_SECOND


def _fields(pid: int) -> list[str]:
    """Return what is known of a process; empty where it has ended, or where there is no /proc."""
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []
