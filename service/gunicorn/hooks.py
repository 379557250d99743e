"""gunicorn's hooks: check the settings, listen safely, start and stop the engine host, write the request log.

In: the master (`server`) or a web worker, as gunicorn passes them. Out: a server that serves, or exit status 1 and one
line in gunicorn's log that names the setting and what is wrong with it.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gevent import GreenletExit

from ..access.addresses import check_bind
from ..access.keys import Auth
from ..config import Settings
from ..errors import SettingsError
from ..models.declaration import servable_models
from ..telemetry import request_log
from ..transport.address import parse_address
from ..transport.credentials import check_credentials
from .announce import Announcement
from .engine_child import EngineHostChild

# TCP gives up a client whose machine or cable failed after 15 minutes; we do after this time.
VANISHED_SECONDS = 30
TCP_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): VANISHED_SECONDS // 2,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): VANISHED_SECONDS * 1000,
}
# Sockets that are open already, from systemd or from the master that this one replaces, come with one of these.
INHERITED = ("LISTEN_FDS", "GUNICORN_FD")
# Where a server that listens on every address is reached from its own machine.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def on_starting(server: Any) -> None:
    """Check the settings and their files before anything starts.

    A web worker or an engine host with the same mistake would fail and be started again without end.
    """
    raise_descriptor_limit()
    with _exit_on_mistake(server):
        settings = Settings.from_env()
        Auth(settings)
        check_credentials(parse_address(settings.engine_socket), settings.tls)
        if not settings.engine_socket:
            servable_models(settings)
    if not (server.cfg.reuse_port or any(name in os.environ for name in INHERITED)):
        for sentence in taken(server.cfg.address):
            server.log.error("%s", sentence)


def when_ready(server: Any) -> None:
    """Prepare the listeners before the first web worker starts, and start the engine host, which loads the model."""
    with _exit_on_mistake(server):
        # The sockets' own addresses: systemd may have passed sockets that `bind` does not name.
        check_bind(Settings.from_env(), [listener.sock.getsockname() for listener in server.LISTENERS])
    set_tcp_options(server.LISTENERS)
    if os.environ.get("VLLM_WSGI_ENGINE_SOCKET"):
        return
    server.engine_host = EngineHostChild()
    os.environ["VLLM_WSGI_ENGINE_SOCKET"] = server.engine_host.socket
    server.engine_host.start()
    # The command lines that are announced use plain HTTP.
    address = None if server.cfg.is_ssl else tcp_address(server.LISTENERS)
    if address is not None:
        server.announcement = Announcement(*address)


def post_fork(server: Any, worker: Any) -> None:
    """Give a new web worker what the master made for all of them."""
    worker.announcement = getattr(server, "announcement", None)


def post_worker_init(worker: Any) -> None:
    """Begin what each web worker does beside its requests: the log of them, and the announcement.

    Keep the application's objects out of garbage collections.
    """
    if getattr(worker, "announcement", None):
        worker.announcement.start()
    if Settings.from_env().log_requests:
        request_log.to_stdout()
    gc.collect()
    gc.freeze()
    # Python takes an interpreter apart in another order where objects are frozen, and logging's handlers complain then.
    atexit.register(gc.unfreeze)


def on_exit(server: Any) -> None:
    """Stop the engine host after the last web worker has ended."""
    engine_host = getattr(server, "engine_host", None)
    if engine_host is not None:
        engine_host.stop()


def worker_int(worker: Any) -> None:
    """End the worker quietly at the second SIGINT of one Ctrl-C.

    The terminal and the master both send one to the worker; the second would print a trace.
    """
    if getattr(worker, "quitting", False):
        raise GreenletExit
    worker.quitting = True


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one: each stream takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def taken(addresses: list[Any]) -> list[str]:
    """Return a sentence for each TCP address that another program listens at. gunicorn tries such an address again."""
    sentences = []
    for host, port in (address for address in addresses if isinstance(address, tuple)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                remedy = "stop that program, or choose another port, such as PORT=11500"
                sentences.append(f"another program, perhaps Ollama, listens at {host}:{port}: {remedy}")
    return sentences


def set_tcp_options(listeners: list[Any]) -> None:
    """Set TCP_OPTIONS on the TCP listeners; accepted sockets inherit them."""
    for listener in listeners:
        if listener.sock.family in (socket.AF_INET, socket.AF_INET6):
            for (level, option), value in TCP_OPTIONS.items():
                listener.sock.setsockopt(level, option, value)


def tcp_address(listeners: list[Any]) -> tuple[str, int] | None:
    """Return host and port of the first TCP listener as this machine reaches it; None when there is no TCP listener."""
    for listener in listeners:
        if listener.sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port = listener.sock.getsockname()[:2]
            return _LOOPBACK.get(host, host), port
    return None


@contextmanager
def _exit_on_mistake(server: Any) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        server.log.error("%s", error.message)
        raise SystemExit(1) from None
