"""The Context that the hooks and the view of a request share, kept in the WSGI environ.

In: the environ of the current request. Out: its Context, and the Presence of its client for the queue.
It never knows a dialect.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from flask import request

from ..access.key_file import ANYONE, Key
from ..engine_client.disconnect import Presence
from ..telemetry.request_stats import RequestStats
from .presence import presence_of
from .route import Route

HEADER = "X-Request-Id"
# The same header as WSGI spells it.
ENVIRON_HEADER = "HTTP_X_REQUEST_ID"
ENVIRON_KEY = "vllm_wsgi.context"

# The ids that proxies make: UUIDs, nginx' hexadecimal $request_id, HAProxy's unique-id with its colons, AWS' Root=1-….
# Blanks, quotes and backslashes are left out, so that an id can stand in any log line as it is.
_SANE = re.compile(r"[A-Za-z0-9._:=+/@~-]{1,128}\Z")


@dataclass
class Context:
    """One request. `route` is None where no route of ours answers, `span` where no traces are wanted.

    `key` is ANYONE until the guard has identified the key that the request presents.
    """

    id: str
    route: Route | None
    stats: RequestStats
    key: Key = ANYONE
    span: Any = None


def open_context(route: Route | None) -> Context:
    """Begin the context of the current request, whose arrival this is for the statistics."""
    path = "" if route is None else route.path
    environ = request.environ
    opened = Context(accept_or_make(environ.get(ENVIRON_HEADER, "")), route, RequestStats(path))
    environ[ENVIRON_KEY] = opened
    return opened


def context() -> Context:
    """Return the current request's context; begin one where the application answers instead of our blueprint."""
    opened: Context | None = request.environ.get(ENVIRON_KEY)
    return open_context(None) if opened is None else opened


def accept_or_make(offered: str) -> str:
    """Return the id that the client offers when it is fit for headers and logs, else 32 hexadecimal digits."""
    return offered if _SANE.match(offered) else uuid.uuid4().hex


def presence() -> Presence:
    """Return the Presence of the current request's client."""
    return presence_of(request.environ)
