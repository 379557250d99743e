"""The scopes that a route asks of a key."""

from __future__ import annotations

from enum import Enum


class Scope(str, Enum):
    """OPEN needs no key, ANY a key of whatever scope; the others need a key that has this scope."""

    OPEN = "open"
    ANY = "any"
    INFERENCE = "inference"
    MANAGE = "manage"
    OBSERVE = "observe"


# The scopes that a key may have.
SCOPES = (Scope.INFERENCE, Scope.MANAGE, Scope.OBSERVE)
SCOPE_NAMES = tuple(scope.value for scope in SCOPES)
