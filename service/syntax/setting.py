"""How a setting is declared: its group, and a field with its default, its sentence and its parser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any


class Group(Enum):
    """The parts of the table of settings, in their order."""

    MODEL = "model"
    MEMORY = "memory"
    ACCESS = "access"
    LIMITS = "limits"
    TIME_OUTS = "time-outs"
    LOGS = "logs"


def setting(group: Group, default: str, sentence: str, parse: Callable[[str], Any] = str) -> Any:
    """Return a field of the table. Its default is a text as in a variable; `parse` raises BadRequest."""
    return field(default=default, metadata={"group": group, "sentence": sentence, "parse": parse})
