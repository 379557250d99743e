"""Declare settings: the groups, and a field with its default, its sentence and its parser.

In: a declaration, and the text of a variable. Out: a field of a dataclass, and its value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field
from enum import Enum
from typing import Any, NamedTuple

from ..errors import BadRequest, SettingsError


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


class Documented(NamedTuple):
    """A row of the table: the variable, its default as a text, its sentence, its group."""

    variable: str
    default: str
    sentence: str
    group: Group


def parsed(setting: Field[Any], text: str, variable: str) -> Any:
    """Return the value of a setting's text. Raises SettingsError that names the variable."""
    try:
        return setting.metadata["parse"](text)
    except BadRequest as error:
        raise SettingsError(f"{variable}={text!r}: {error.message}") from None
    except (ValueError, RecursionError) as error:
        # Python converts no bytes that are not UTF-8, no number of thousands of digits and no JSON of such a depth.
        raise SettingsError(f"{variable}={text!r}: can't be read: {error}") from None
