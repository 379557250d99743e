"""Notice that the current request's client disconnects, by the means that the WSGI server offers.

In: a WSGI environ. Out: a Presence: a socket to watch, a function to ask, or neither. Without either a disconnect is
noticed at the next write, which is a heartbeat at the latest. docs/reference/servers.md lists what each server offers.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from ..engine_client.disconnect import Presence


def presence_of(environ: Mapping[str, Any]) -> Presence:
    """Return a Presence by the server's means. Sockets can be watched on Linux alone, which has epoll."""
    # waitress offers it when its `channel_request_lookahead` is above 0.
    gone: Optional[Callable[[], bool]] = environ.get("waitress.client_disconnected")
    if gone is None and sys.platform == "linux":
        return Presence(fileno=next(filter(_is_socket, _descriptors(environ)), None))
    return Presence(gone=gone)


def _descriptors(environ: Mapping[str, Any]) -> Iterator[Callable[[], int]]:
    """Yield functions that may return the descriptor of the client's socket."""
    body = environ.get("wsgi.input")
    sources = (
        environ.get("gunicorn.socket"),
        # Werkzeug's development server, which `flask run` starts.
        environ.get("werkzeug.socket"),
        # gevent's own WSGI server and Cheroot wrap a file over the socket.
        getattr(body, "rfile", None),
        # uWSGI and wsgiref.
        body,
    )
    for source in sources:
        fileno = getattr(source, "fileno", None)
        if callable(fileno):
            yield fileno


def _is_socket(fileno: Callable[[], int]) -> bool:
    """Return whether it is a socket: a server that reads the whole body first may have it in a temporary file."""
    try:
        return stat.S_ISSOCK(os.fstat(fileno()).st_mode)
    except (OSError, ValueError):
        return False
