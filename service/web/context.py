"""A request's id: the caller's own, where it is fit for logs and headers, else a new one."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from flask import request

from ..access.key_file import ANYONE, Key
from ..engine_client.disconnect import Presence
from ..telemetry.request_stats import RequestStats

HEADER = "X-Request-Id"

# What proxies make: UUIDs, nginx' hexadecimal $request_id, HAProxy's unique-id with its colons, AWS' Root=1-….
# No blanks, quotes or backslashes, so that it stands in any log line as it is.
_SANE = re.compile(r"[A-Za-z0-9._:=+/@~-]{1,128}\Z")


def accept_or_make(offered: str) -> str:
    """`offered` where it is sane, else 32 hexadecimal digits."""
    return offered if _SANE.match(offered) else uuid.uuid4().hex


# Where the key of a request stands in its WSGI environ.
KEY = "vllm_wsgi.key"


def key_of(environ: Mapping[str, Any]) -> Key:
    """The key that a request came with; where our guard was not asked, anyone's."""
    key: Key = environ.get(KEY, ANYONE)
    return key


# Where a request's entry stands in its WSGI environ.
ENTRY = "vllm_wsgi.entry"


def entry_of(environ: Mapping[str, Any]) -> RequestStats:
    """The current request's; where nobody keeps one, one that is thrown away."""
    entry: RequestStats | None = environ.get(ENTRY)
    return RequestStats("") if entry is None else entry


ENVIRON_ID = "vllm_wsgi.request_id"


def current_id() -> str:
    """The current request's id; it stays in the environ, where the server's access log finds it, too."""
    environ = request.environ
    if ENVIRON_ID not in environ:
        environ[ENVIRON_ID] = accept_or_make(request.headers.get(HEADER, ""))
    return str(environ[ENVIRON_ID])


def presence() -> Presence:
    """How the current request's server can tell that the client has disconnected.

    gunicorn puts the client's socket into the WSGI environ, which can be watched where the system has epoll. waitress
    puts a callable there; it needs waitress' `channel_request_lookahead` above 0.
    """
    client = request.environ.get("gunicorn.socket") if sys.platform == "linux" else None
    return Presence(
        fileno=None if client is None else client.fileno, gone=request.environ.get("waitress.client_disconnected")
    )
