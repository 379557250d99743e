"""The generated pages of docs/reference and deploy/systemd/vllm-wsgi.env, which `make docs` writes and a test compares.

In: the table of settings, the routes, the tree of errors and the metrics, as the code has them. Out: texts. The page of
the faults is written by tests/faults, since it lists what those tests have shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from service import errors
from service.config import table as settings_table
from service.dialects.anthropic.answer import error_record as anthropic_record
from service.dialects.openai.answer import error_record as openai_record
from service.dialects.vllm_fields import ROUTES as VLLM_ROUTES
from service.dialects.vllm_fields import table as vllm_table
from service.engine.host.metrics import Metrics, State
from service.protocol.live import EngineStatus
from service.protocol.model_info import ClusterNode
from service.syntax.setting import Documented
from service.telemetry.metrics import UP
from service.web.blueprint import all_routes

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
ENVIRONMENT = ROOT / "deploy" / "systemd" / "vllm-wsgi.env"

# The units set these themselves.
SET_BY_UNITS = ("VLLM_WSGI_STORE", "VLLM_WSGI_ENGINE_SOCKET")

CREDENTIALS = "/run/credentials/vllm-wsgi-web.service/vllm-wsgi"
TLS_OPTIONS = f"--certfile {CREDENTIALS}.tls_certificate --keyfile {CREDENTIALS}.tls_key"
ENVIRONMENT_HEAD = f"""\
# /etc/vllm-wsgi/vllm-wsgi.env: the settings of both units (systemd.exec(5), EnvironmentFile=). A line that is commented
# out shows the default. JSON goes between single quotes. Restart a unit after a change that concerns it.

# --- gunicorn ---

# Where gunicorn listens. When vllm-wsgi-web.socket is enabled, it listens instead.
#HOST=127.0.0.1
#PORT=11434

# How many web workers. One web worker serves thousands of streams on one core.
#WEB_CONCURRENCY=1

# gunicorn's own options; there are none by default. TLS up to this machine, with the files from /etc/credstore:
#GUNICORN_CMD_ARGS={TLS_OPTIONS}

# --- vLLM ---

# The engine gets vLLM's and Hugging Face's own variables unchanged. With INFO vLLM logs much.
#VLLM_LOGGING_LEVEL=ERROR
#HF_HUB_OFFLINE=0
"""

SETTINGS_HEAD = """\
# Settings

Every setting is an environment variable. A variable with the prefix `VLLM_WSGI_` that is not in this table ends the
start, so that a spelling mistake is reported. `vllm-wsgi settings` lists each setting with its value and its source.

Durations are in seconds and sizes in bytes.

`HOST`, `PORT`, `MODEL` and `WEB_CONCURRENCY` (the number of web workers) are short names for `make serve`, the systemd
units and `gunicorn -c gunicorn.conf.py`. `MODEL` is read only when `VLLM_WSGI_MODEL` is not set.
"""

ROUTES_HEAD = """\
# Routes

Every path is below `VLLM_WSGI_PREFIX`, or below the blueprint's `url_prefix`. Without keys, all routes are open to
clients on the same machine. With [keys](keys-toml.md), a route needs a key with its scope. `open` needs no key, and
`any` accepts any key.
"""

TITLES = {
    "ollama": "Ollama's API",
    "openai": "OpenAI's API",
    "anthropic": "Anthropic's API",
    "operations": "Operations",
    "events": "Live state",
    "streams": "Kept streams",
    "page": "Web page",
}

ERRORS_HEAD = """\
# Errors

An error before a stream's first record is an HTTP status and a JSON body. An error after it is the last record of the
stream. Both have the form of the API that the client uses:

| API | form |
|---|---|
| Ollama | `{"error": "…"}`, in a stream with `request_id` |
| OpenAI | `{"error": {"message": "…", "type": "…", "param": …, "code": …}}` |
| Anthropic | `{"type": "error", "error": {"type": "…", "message": "…"}}` |

The class is the `error` of the request log and of `vllm_wsgi_requests_total`. When an answer has a `Retry-After`
header, the same request can succeed later. The table shows its usual value in seconds.
"""

METRICS_HEAD = """\
# Metrics

`GET /metrics` answers in Prometheus' text format. It needs the scope `observe` when keys are set. The engine host
counts for all web workers, so any of them can be scraped. Its counters begin at zero when it restarts. vLLM's own
metrics follow with the prefix `vllm:`, with the model's name in `model_name`.

`model` is a name that the server knows, or `unknown`. `ending` is `done`, `client_gone` (the client disconnected or
was too slow), `refused` (nothing was generated), `drained` or `error`. `error` is the class of the
[error](errors.md). `node` is the address of a node of the [cluster](../how-to/run-engines-on-a-ray-cluster.md).
"""


VLLM_HEAD = """\
# vLLM's own fields

vLLM's server takes fields that neither OpenAI's nor Anthropic's API has. This server honours each of them or refuses it
with a 400 that names it, because a field that changes the meaning of an answer is never ignored. *No effect* marks the
fields with which vLLM's own server does nothing on that route either. The list is that of vLLM 0.32.

A refused field is accepted when its value asks for nothing, for example `"use_beam_search": false`. Fields that nobody
knows are ignored.
"""


def generated(source: str, text: str) -> str:
    return f"<!-- Generated from {source} by `make docs`, do not edit. -->\n\n{text}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head)]
    cells.append(["---"] * len(cells[0]))
    cells += [list(row) for row in rows]
    return "".join(f"| {' | '.join(escaped(cell) for cell in row)} |\n" for row in cells)


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def grouped() -> Iterator[tuple[str, list[Documented]]]:
    """Each group's title with its settings."""
    for group, members in groupby(settings_table(), key=lambda each: each.group):
        yield group.value.capitalize(), list(members)


def settings_page() -> str:
    parts = [SETTINGS_HEAD]
    for title, members in grouped():
        rows = ((code(each.variable), code(each.default) or "empty", each.sentence) for each in members)
        parts.append(f"## {title}\n\n{table(('variable', 'default', 'what it does'), rows)}")
    return generated("service/config.py", "\n".join(parts))


def environment_file() -> str:
    parts = ["# Generated from service/config.py by `make docs`, do not edit.\n", ENVIRONMENT_HEAD]
    for title, members in grouped():
        parts.append(f"# --- {title.lower()} ---\n")
        parts += [environment_lines(each) for each in members]
    return "\n".join(parts)


def environment_lines(each: Documented) -> str:
    note = " The units set it." if each.variable in SET_BY_UNITS else ""
    quoted = f"'{each.default}'" if each.default.startswith("{") else each.default
    return f"# {each.sentence}{note}\n#{each.variable}={quoted}\n"


def errors_page() -> str:
    rows = [error_row(kind) for kind in errors.ServiceError.kinds.values()]
    head = ("error", "status", "when", "`Retry-After`", "OpenAI's type", "OpenAI's code", "Anthropic's type")
    return generated("service/errors.py", f"{ERRORS_HEAD}\n{table(head, rows)}")


def error_row(kind: type[errors.ServiceError]) -> list[str]:
    error = kind("")
    status = "4xx" if kind is errors.HTTPRefusal else str(error.status)
    when = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    openai = openai_record(error)["error"]
    names = [code(name) if name else "" for name in (openai["type"], openai["code"])]
    retry = "" if error.retry_after is None else str(error.retry_after)
    return [code(kind.__name__), status, when, retry, *names, code(anthropic_record(error)["error"]["type"])]


def metric_families() -> list[Any]:
    """Every family that /metrics has without vLLM's own."""
    sums = {"running": 0, "waiting": 0, "loads": 1, "unloads": 0, "restarts": 0, "replicas": 1}
    states = [State("demo:latest", loaded=True, **sums, workers=(EngineStatus(),))]
    nodes = [ClusterNode(id="1", address="10.0.0.2")]
    text = f"{UP}vllm_wsgi_engine_host_up 1\n" + Metrics().text(states, nodes)
    return list(text_string_to_metric_families(text))


def metric_labels() -> dict[str, tuple[str, ...]]:
    """The labels of each family that has no samples yet: its text does not show them."""
    registry = Metrics()._registry
    collectors = {name: each for name, each in registry._names_to_collectors.items() if hasattr(each, "_labelnames")}
    return {name: tuple(each._labelnames) for name, each in collectors.items()}


def metric_names() -> dict[str, Any]:
    """Each family by the name under which a query asks for it."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in sorted(metric_families(), key=lambda each: each.name)
    }


def metrics_page() -> str:
    labels = metric_labels()
    rows = []
    for name, family in metric_names().items():
        own = labels.get(family.name) or sorted({label for sample in family.samples for label in sample.labels})
        rows.append([code(name), family.type, ", ".join(own), family.documentation])
    return generated(
        "service/engine/host/metrics.py", f"{METRICS_HEAD}\n{table(('metric', 'kind', 'labels', 'meaning'), rows)}"
    )


def routes_page() -> str:
    parts = [ROUTES_HEAD]
    for name, routes in all_routes().items():
        rows = ([code(each.path), ", ".join(each.methods), each.scope.value, each.summary] for each in routes)
        parts.append(f"## {TITLES[name]}\n\n{table(('path', 'method', 'scope', 'what it does'), rows)}")
    return generated("service/web/routes", "\n".join(parts))


def vllm_page() -> str:
    rows = ([code(name), *rest] for name, *rest in vllm_table())
    head = ["field", *(code(route) for route in VLLM_ROUTES), "note"]
    return generated("service/dialects/vllm_fields.py", f"{VLLM_HEAD}\n{table(head, rows)}")


PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "settings.md": settings_page,
    REFERENCE / "routes.md": routes_page,
    REFERENCE / "errors.md": errors_page,
    REFERENCE / "metrics.md": metrics_page,
    REFERENCE / "vllm-fields.md": vllm_page,
    ENVIRONMENT: environment_file,
}


def dashboard_metrics() -> set[str]:
    """What the dashboard asks for, without the suffixes of histograms."""
    names = re.findall(r"\bvllm_wsgi_\w+", (ROOT / "deploy" / "grafana.json").read_text())
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def main() -> None:
    for path, page in PAGES.items():
        path.write_text(page())
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
