"""The page of servers: what each one does, as the tests of this run have seen it."""

from __future__ import annotations

from tests.legacy.servers import SERVERS, Server
from tests.support.servers import ROOT

PAGE = ROOT / "docs" / "reference" / "servers.md"
PAGE_HEAD = """\
<!-- Generated from tests/legacy by `make test-legacy`, do not edit. -->

# Servers

The blueprint was tried under each of these servers, with the Python and the Flask of the row. Under all of them:

- streams flow token by token, as NDJSON and as server-sent events;
- a web page of another origin, an unknown path and a body that is too long are refused;
- a stream that ends leaves no trace in the log.

Our gunicorn worker needs gunicorn 22 or later, and ends an older one with a sentence. Some versions of gevent write
`greenlet is being finalized` when a worker of gunicorn exits, with any application.

They differ in this:

- *Streams at once*: how many streams one process can serve as it is started here.
- *A client disconnects*: when the engine stops generating for it, before the first token and after it. The heartbeat is
  `VLLM_WSGI_HEARTBEAT`.
- *At SIGTERM*: what happens to open streams.
- *Foreign `Host`*: whether a foreign `Host` header is refused on loopback. A server that does not pass on the address
  on which it listens leaves that open.

"""
PAGE_STARTS = """\
## How each was started

With an application `app` in the module `host`, in an environment that has `vllm-wsgi` and the server:

"""
COLUMNS = (
    "server",
    "Python, Flask",
    "streams at once",
    "a client disconnects",
    "at SIGTERM open streams",
    "foreign `Host`",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"

CHECKS = ("streams", "leaves", "drains", "refuses")


class Seen:
    """Which servers have passed which checks."""

    def __init__(self) -> None:
        self._passed: set[tuple[str, str]] = set()

    def add(self, server: Server, check: str) -> None:
        self._passed.add((server.name, check))

    def servers(self) -> list[Server]:
        """Return the servers that have passed every check."""
        return [each for each in SERVERS if all((each.name, check) in self._passed for check in CHECKS)]


def row(server: Server) -> str:
    flask = next(name.partition("==")[2] for name in server.environment.packages if name.startswith("Flask=="))
    cells = (
        server.name + (f" ({server.note})" if server.note else ""),
        f"{server.environment.python}, {flask}",
        "one" if server.streams == 1 else "many",
        f"noticed {server.notices}",
        server.at_sigterm,
        "refused" if server.knows_address else "not checked",
    )
    return f"| {' | '.join(cells)} |\n"


def start(server: Server) -> str:
    """How it is started here, for an application `app` in the module `host`."""
    words = " ".join(server.command).format(port=8000, bin="BIN", directory="/tmp/my-app").replace("BIN/", "")
    return f"- {server.name}: `{'python ' if words.startswith('-') else ''}{words}`\n"


def page(servers: list[Server]) -> str:
    table = PAGE_HEAD + HEAD + "".join(map(row, servers))
    return f"{table}\n{PAGE_STARTS}{''.join(map(start, one_of_each(servers)))}"


def one_of_each(servers: list[Server]) -> list[Server]:
    """Return the servers without gunicorn's older versions, which are started as its newest is."""
    newest = max((each.name.partition(",")[0] for each in servers if each.name.startswith("gunicorn")), default="")
    return [each for each in servers if not each.name.startswith("gunicorn") or each.name.startswith(f"{newest},")]
