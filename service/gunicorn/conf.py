"""gunicorn's settings: gevent workers, streams of any length, and an engine host of their own unless one is named.

    gunicorn -c python:vllm_wsgi.gunicorn.conf "vllm_wsgi.web.application:create_app()"

In: HOST, PORT, MODEL and WEB_CONCURRENCY from the environment. Out: module variables that bear the names of gunicorn's
settings, which gunicorn reads. Everything else is set by a `VLLM_WSGI_` variable.
"""

from __future__ import annotations

import os
from typing import Any

from ..version import module
from .supported import refuse_old_gunicorn

refuse_old_gunicorn()

from .hooks import on_exit, on_starting, post_fork, post_worker_init, when_ready, worker_int  # noqa: E402

__all__ = [
    "access_log_format", "bind", "control_socket_disable", "forwarder_headers", "graceful_timeout", "keepalive",
    "max_requests", "on_exit", "on_starting", "post_fork", "post_worker_init", "secure_scheme_headers", "timeout",
    "when_ready", "worker_class", "worker_connections", "worker_int", "workers",
]  # fmt: skip


def bind_address(host: str, port: str) -> str:
    """Return what gunicorn binds to; an IPv6 address is put into brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Short for the setting. With `preload_app` gunicorn loads the application before any hook runs, so this stands here.
if "MODEL" in os.environ:
    os.environ.setdefault("VLLM_WSGI_MODEL", os.environ["MODEL"])

bind = bind_address(os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "11434"))

worker_class = module("gunicorn.worker.WebWorker")
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
# Twice the connections that the load balancer may open. Limits for clients are set elsewhere: by key and by queue.
worker_connections = 10_000

# One decision: the load balancer's idle time-out (60 s) < keepalive < graceful_timeout < systemd's TimeoutStopSec.
keepalive = 75
graceful_timeout = 120
# For the worker's own loop, not for a request: streams may take any time.
timeout = 60
# A worker that restarts after a number of requests would cut its open streams.
max_requests = 0

# VLLM_WSGI_PROXY_HOPS alone decides which proxy is believed. gunicorn's defaults would believe each peer on this
# machine and let the clients of a local proxy choose SCRIPT_NAME.
secure_scheme_headers: dict[str, Any] = {}
forwarder_headers = ""

# Used when GUNICORN_CMD_ARGS holds --access-logfile: with the request's id, and its duration in microseconds.
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(D)s %({x-request-id}o)s'

# gunicorn 27 otherwise opens ~/.gunicorn/gunicorn.ctl, which a second instance on the machine would take over.
control_socket_disable = True
