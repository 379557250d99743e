"""The servers of the matrix: which packages each needs, how it is started, and what it is expected to do.

The tests check every expectation, so that the table in docs/reference/servers.md says what has been seen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.legacy.environments import Environment

# Apache refuses to serve as root. In a user namespace root is www-data, and still reads its own files.
AS_ANOTHER_USER = ["unshare", "--user", "--map-user=33", "--map-group=33", "--"]

AT_ONCE, AT_HEARTBEAT = "at once", "at the next heartbeat"
FINISHES, CUT = "continue to their end", "are cut"

FLASK_2_2 = ("Flask==2.2.5", "Werkzeug==2.2.3")
FLASK_2_3 = ("Flask==2.3.3", "Werkzeug==2.3.8")
FLASK_3_0 = ("Flask==3.0.3", "Werkzeug==3.0.6")
OUR_WORKER = ["-c", "python:vllm_wsgi.gunicorn.conf"]
# The versions that are still in use, each on the newest Python that it and its gevent run on.
GUNICORNS = {
    "20.1": Environment("3.9", ("gunicorn==20.1.0", "gevent==21.12.0", "setuptools<80", *FLASK_2_2)),
    "21.2": Environment("3.10", ("gunicorn==21.2.0", "gevent==23.9.1", "setuptools<80", *FLASK_2_3)),
    "22": Environment("3.11", ("gunicorn==22.0.0", "gevent==24.2.1", "packaging", *FLASK_3_0)),
    "23": Environment("3.9", ("gunicorn==23.0.0", "gevent==25.9.1", "Flask==3.1.3")),
    "25": Environment("3.12", ("gunicorn==25.3.0", "gevent==25.9.1", "Flask==3.1.3")),
    "27": Environment("3.13", ("gunicorn==27.0.1", "gevent==26.9.0", "packaging", "Flask==3.1.3")),
}  # fmt: skip
TOO_OLD_FOR_OUR_WORKER = ("20.1", "21.2")


@dataclass(frozen=True)
class Server:
    """`command` follows the interpreter; `{port}` and `{python}` are filled in."""

    name: str
    environment: Environment
    command: list[str]
    # When it notices that a client has disconnected.
    notices: str = AT_ONCE
    # What open streams do at SIGTERM.
    at_sigterm: str = FINISHES
    # Streams at the same time, as it is started here.
    streams: int = 8
    # Whether it writes the listening address into the WSGI environ, so that foreign Host headers can be refused.
    knows_address: bool = True
    # A sentence for the table.
    note: str = ""

    @property
    def id(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")


def gunicorn(version: str, worker: str) -> Server:
    bind = ["--bind", "127.0.0.1:{port}", "--graceful-timeout", "20"]
    own = {
        "our worker": OUR_WORKER,
        "gevent": ["-k", "gevent"],
        "gthread": ["-k", "gthread", "--threads", "8"],
        "sync": ["-k", "sync"],
    }[worker]
    streams = 1 if worker == "sync" else 8
    command = ["-m", "gunicorn", *own, *bind, "host:app"]
    return Server(f"gunicorn {version}, {worker}", GUNICORNS[version], command, streams=streams)


_WAITRESS = Environment("3.12", ("waitress==3.0.2", "Flask==3.1.3"))
_CHEROOT = Environment("3.12", ("cheroot==10.0.1", "Flask==3.1.3"))
_WERKZEUG = Environment("3.10", ("Flask==2.3.3", "Werkzeug==2.3.8"))
_UWSGI = Environment("3.11", ("pyuwsgi==2.0.30.post1", "gevent==25.9.1", "Flask==3.1.3"))
_MOD_WSGI = Environment("3.11", ("mod_wsgi==6.1.1", "Flask==3.1.3"))

SERVERS = [
    *(
        gunicorn(version, worker)
        for version in GUNICORNS
        for worker in ("our worker", "gevent", "gthread", "sync")
        if worker != "our worker" or version not in TOO_OLD_FOR_OUR_WORKER
    ),
    Server(
        "waitress 3.0",
        _WAITRESS,
        ["-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=8", "--channel-request-lookahead=1", "host:app"],
        at_sigterm=CUT,
        knows_address=False,
    ),
    Server(
        "Cheroot 10.0",
        _CHEROOT,
        ["-m", "cheroot", "--bind", "127.0.0.1:{port}", "--threads", "8", "host:app"],
        at_sigterm=CUT,
        knows_address=False,
    ),
    Server(
        "Werkzeug's development server",
        _WERKZEUG,
        ["-m", "flask", "--app", "host", "run", "--port", "{port}"],
        at_sigterm=CUT,
    ),
    Server(
        "uWSGI 2.0, threads",
        _UWSGI,
        ["{bin}/pyuwsgi", "--http-socket", "127.0.0.1:{port}", "--master", "--threads", "8", "--die-on-term",
         "--module", "host:app"],
        at_sigterm=CUT,
        knows_address=False,
    ),
    Server(
        "uWSGI 2.0, gevent",
        _UWSGI,
        ["{bin}/pyuwsgi", "--http-socket", "127.0.0.1:{port}", "--master", "--gevent", "100", "--gevent-monkey-patch",
         "--die-on-term", "--module", "host:app"],
        at_sigterm=CUT,
        knows_address=False,
    ),
    Server(
        "mod_wsgi 6.1",
        _MOD_WSGI,
        ["{bin}/mod_wsgi-express", "start-server", "host.py", "--application-type", "script",
         "--callable-object", "app", "--port", "{port}", "--host", "127.0.0.1", "--threads", "8",
         "--server-root", "{directory}/apache", "--log-to-terminal"],
        notices=AT_HEARTBEAT,
        at_sigterm=CUT,
        knows_address=False,
    ),
]  # fmt: skip
# One of each kind, oldest and newest, for runs that must be short. `make test-legacy` tries all.
SOME = {
    "gunicorn 20.1, gevent", "gunicorn 22, our worker", "gunicorn 27, our worker", "gunicorn 23, gthread",
    "gunicorn 27, sync", "waitress 3.0", "Werkzeug's development server", "uWSGI 2.0, threads",
}  # fmt: skip


def arguments(server: Server, python: Path, directory: Path, port: int) -> list[str]:
    """Return the command line."""
    values = {"port": str(port), "bin": str(python.parent), "directory": str(directory)}
    filled = [word.format(**values) for word in server.command]
    if not filled[0].startswith("/"):
        return [str(python), *filled]
    return [*(AS_ANOTHER_USER if "mod_wsgi" in server.name and os.getuid() == 0 else []), *filled]
