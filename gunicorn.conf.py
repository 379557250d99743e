"""gunicorn's settings: gevent workers, streams that may last, and an engine host beside them unless one is named.

HOST and PORT choose the address, MODEL the model; everything else is a VLLM_WSGI_ variable (README).
"""

import os
import resource
import socket
import threading

from gevent import GreenletExit

from service.access.addresses import check_bind
from service.access.keys import Auth
from service.config import Settings
from service.errors import SettingsError
from service.gunicorn.announce import announce
from service.gunicorn.engine_child import EmbeddedHost
from service.models.declaration import declared_models
from service.telemetry import request_log

if "MODEL" in os.environ:
    os.environ.setdefault("VLLM_WSGI_MODEL", os.environ["MODEL"])

host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "11434"))
bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

worker_class = "service.gunicorn.worker.WebWorker"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
# Over the load balancer's connections, twice; who may come in is not for this pool to decide.
worker_connections = 10_000
# A stream is a descriptor; the usual soft limit of 1,024 is not meant for servers.
_, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))

# One decision (DESIGN): the load balancer's idle time-out (60) < keepalive < graceful_timeout < systemd's.
keepalive = 75
graceful_timeout = 120
# Of the worker's own loop, not of a request: streams may take as long as they like.
timeout = 60
# A restart by count would cut the streams of the moment.
max_requests = 0

# Who is behind a proxy is for VLLM_WSGI_PROXY_HOPS to say. gunicorn would believe every peer on this machine, and let
# the clients of a proxy there choose SCRIPT_NAME.
secure_scheme_headers = {}
forwarder_headers = ""

# Where GUNICORN_CMD_ARGS has --access-logfile: with the request's id, and its duration in microseconds.
access_log_format = '%(h)s "%(r)s" %(s)s %(b)s %(D)s %({vllm_wsgi.request_id}e)s'

# gunicorn 27 opens ~/.gunicorn/gunicorn.ctl otherwise, which a second instance takes over.
control_socket_disable = True


def on_starting(server):
    """Before anything is there: what would keep it from serving."""
    try:
        settings = Settings.from_env()
        # Here rather than in each web worker, which would be started again and again with the same mistake.
        Auth(settings)
        if not settings.engine_socket:
            # And not in the host, for the same reason.
            declared_models(settings)
    except SettingsError as error:
        server.log.error("%s", error.message)
        raise SystemExit(1) from None


# A client that vanishes without a word (a cable, a crashed host) is given up after so many seconds, not 15 minutes.
VANISHED_SECONDS = 30
TCP_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): VANISHED_SECONDS // 2,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): VANISHED_SECONDS * 1000,
}


def when_ready(server):
    """Listening, before the first web worker: the engine host, which loads the model meanwhile.

    Accepted sockets inherit the listeners' options.
    """
    try:
        # Of the sockets themselves, which systemd may have handed over. Nobody answers on them yet.
        check_bind(Settings.from_env(), [listener.sock.getsockname() for listener in server.LISTENERS])
    except SettingsError as error:
        server.log.error("%s", error.message)
        raise SystemExit(1) from None
    for listener in server.LISTENERS:
        if listener.sock.family in (socket.AF_INET, socket.AF_INET6):
            for (level, option), value in TCP_OPTIONS.items():
                listener.sock.setsockopt(level, option, value)
    if os.environ.get("VLLM_WSGI_ENGINE_SOCKET"):
        return
    server.engine_host = EmbeddedHost()
    os.environ["VLLM_WSGI_ENGINE_SOCKET"] = server.engine_host.socket
    server.engine_host.start()
    if server.cfg.is_ssl:
        # What is told to paste speaks no TLS.
        return
    arguments = (Settings.from_env(), {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    threading.Thread(target=announce, args=arguments, daemon=True).start()


def post_worker_init(worker):
    """In the web worker, whose log this is."""
    if Settings.from_env().log_requests:
        request_log.to_stdout()


def on_exit(server):
    """After the last web worker."""
    engine_host = getattr(server, "engine_host", None)
    if engine_host is not None:
        engine_host.stop()


def worker_int(worker):
    """A Ctrl-C reaches the web worker twice, from the terminal and from the master; the second would print a trace."""
    if getattr(worker, "quitting", False):
        raise GreenletExit
    worker.quitting = True
