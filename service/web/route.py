"""A route: the one place that declares a path, its view, and the scope that a key needs for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response

from ..access.scopes import Scope


@dataclass(frozen=True)
class Route:
    """`path` is a rule as Flask writes it, without any prefix. `summary` is a phrase for the page of routes.

    `scope` has no default, so that no route can be declared without a rule of access.
    """

    path: str
    methods: tuple[str, ...]
    view: Callable[..., Response]
    scope: Scope
    summary: str

    @property
    def endpoint(self) -> str:
        """The name under which Flask knows the route, in the blueprint of its dialect."""
        return self.view.__name__


@dataclass(frozen=True)
class LinkedRoute(Route):
    """Reads a stream that exists already. A signed link (`?t=`) can take the place of a key.

    A browser that gets a 503 does not come back, so the route also answers while the process shuts down.
    """


@dataclass(frozen=True)
class Fallback(Route):
    """Answers the paths and methods that no route has, in the dialect's own shape."""

    @property
    def endpoint(self) -> str:
        return self.path
