"""Questions about a process that may end while they are asked."""

from __future__ import annotations

import os

import psutil


def session(process: psutil.Process) -> int:
    """Return the id of its session, or -1 when the process has ended."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1


def lives(process: psutil.Process) -> bool:
    """Return False for a process that has ended, also while it waits for its parent."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command(process: psutil.Process) -> list[str]:
    """Return its command line, which is empty when the process has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
