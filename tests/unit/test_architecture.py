"""The rules of the layout, as one table: which part may import which, and where foreign libraries may be."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import service

PACKAGE = Path(service.__file__).parent
# Each module by its path inside the package: "engine/host/host"; a package by its folder.
MODULES = {
    (path.parent if path.name == "__init__.py" else path.with_suffix("")).relative_to(PACKAGE).as_posix(): ast.parse(
        path.read_text()
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}
PACKAGES = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py"))

# What the three dialects share.
DIALECT_BASE = {
    f"dialects/{name}"
    for name in (
        "answer",
        "bounds",
        "content",
        "fields",
        "float32",
        "go_base64",
        "history",
        "images",
        "json_body",
        "plain_text",
        "keeping",
        "tools",
        "vllm_fields",
    )
}
# What a part may import of ours, besides itself. The longest name that fits a module is its part.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "drain": {"errors"},
    "protocol": {"errors"},
    "syntax": {"errors", "protocol"},
    "transport": {"errors"},
    "config": {"errors", "syntax", "transport/address"},
    "engine_client": {"errors", "protocol", "transport", "drain"},
    "dialects": {"errors", "protocol/request", "protocol/events", "protocol/model_info", "syntax"},
    "dialects/ollama": {
        "errors", "protocol/request", "protocol/events", "protocol/model_info", "syntax",
        *DIALECT_BASE,
    },
    "dialects/openai": {
        "errors", "protocol/request", "protocol/events", "protocol/model_info", "syntax",
        *DIALECT_BASE,
    },
    "dialects/anthropic": {
        "errors", "protocol/request", "protocol/events", "protocol/model_info", "syntax",
        *DIALECT_BASE,
    },
    "telemetry": {"errors", "protocol", "config", "engine_client"},
    "access": {"errors", "protocol", "syntax", "config"},
    "web": {
        "errors", "protocol", "syntax", "config", "drain", "version", "engine_client", "dialects", "telemetry",
        "transport", "access", "web/framing", "web/negotiation", "cli/key", "cli/check",
        "cli/finding",
    },
    "web/framing": {"errors", "dialects/plain_text"},
    "web/negotiation": {"errors", "web/framing"},
    "page": set(),
    "gunicorn": {
        "errors", "protocol", "config", "drain", "version", "engine_client", "access", "telemetry", "transport", "web",
        "models",
    },
    "cli": {
        "errors", "protocol", "config", "version", "access", "engine_client", "models", "transport",
        "cli/cluster_check",
    },
    "cli/cluster_check": {"errors", "protocol", "config", "version", "models", "engine/cluster", "cli/finding"},
    "__main__": {"cli"},
    "store": {"errors", "protocol", "syntax"},
    "models": {"errors", "protocol", "syntax", "config", "store"},
    "engine": set(),
    "engine/listener": {"errors", "protocol", "transport", "engine/tcp_listener"},
    "engine/tcp_listener": {"errors", "transport"},
    "engine/backend": {"errors", "protocol"},
    "engine/bell": set(),
    "engine/exit_status": set(),
    "engine/cpu_time": set(),
    "engine/parent_death": set(),
    "engine/worker_launch": {"config", "models", "protocol"},
    "engine/vectors": {"errors"},
    "engine/script": {"protocol"},
    "engine/scripted": {"errors", "protocol", "engine/backend", "engine/script", "engine/vectors"},
    "engine/hub": {"errors", "version", "engine/bell", "engine/parent_death"},
    "engine/vllm": {
        "errors", "protocol", "syntax", "models", "engine/backend", "engine/vectors", "engine/exit_status",
    },
    "engine/worker": {
        "errors", "protocol", "transport", "engine/listener", "engine/backend", "engine/parent_death",
        "engine/scripted", "engine/vllm",
    },
    "engine/cluster": {
        "errors", "protocol", "config", "models", "version", "transport/address", "transport/credentials",
        "engine/cpu_time", "engine/exit_status", "engine/worker_launch",
    },
    "engine/host": {
        "errors", "protocol", "syntax", "config", "models", "store", "version", "transport", "engine/hub",
        "engine/listener",
        "engine/parent_death", "engine/bell", "engine/exit_status", "engine/cpu_time", "engine/worker_launch",
        "engine/cluster",
    },
}  # fmt: skip
# Which libraries may be imported where; each of them nowhere else.
FOREIGN: dict[str, set[str]] = {
    "flask": {"web"},
    "werkzeug": {"web"},
    "click": {"cli"},
    "cryptography": {"cli/authority"},
    "gevent": {"gunicorn"},
    "gunicorn": {"gunicorn"},
    "asyncio": {"engine"},
    "vllm": {"engine/vllm"},
    "torch": {"engine/vllm"},
    "PIL": {"engine/vllm"},
    "huggingface_hub": {"engine/hub", "models/inspection"},
    "opentelemetry": {"telemetry/traces"},
    "ray": {"engine/cluster"},
    "zstandard": {"web/content_coding"},
}
# A dialect makes records, never bytes.
WITHOUT_BYTES = ("dialects/ollama/", "dialects/openai/", "dialects/anthropic/", "dialects/answer")
# Loaded in the process of one model only: the host and the scripted engine do without.
BEHIND_VLLM = "engine/vllm"


def part(module: str) -> str:
    """The entry of the table that holds for a module; empty where none does."""
    fits = [name for name in MAY_IMPORT if within(module, name)]
    return max(fits, key=len, default="")


def within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}/")


@cache
def imports(module: str) -> list[tuple[str, bool]]:
    """What the module imports anywhere in it, and whether of ours."""
    return [*walked_imports(module)]


def walked_imports(module: str) -> Iterator[tuple[str, bool]]:
    home = module.split("/") if module in PACKAGES else module.split("/")[:-1]
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or "", False
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] + (node.module or "").split(".")
            for alias in node.names:
                path = "/".join(each for each in base if each)
                inner = f"{path}/{alias.name}".lstrip("/")
                yield inner if inner in MODULES else path, True


def ours(module: str) -> set[str]:
    return {name for name, is_ours in imports(module) if is_ours}


def foreign(module: str) -> set[str]:
    return {name.partition(".")[0] for name, is_ours in imports(module) if not is_ours}


def fresh(code: str) -> list[str]:
    """What `code` prints as JSON, in an interpreter that has imported nothing."""
    command = [sys.executable, "-c", f"import json, sys\n{code}"]
    run = subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


# What the seams have still to mend; a row goes with its cause.
PENDING: set[str] = set()
pending = pytest.mark.xfail(strict=True, reason="a seam that is not mended yet")


@pytest.mark.parametrize(
    "module", [pytest.param(name, marks=[pending] if name in PENDING else []) for name in MODULES if name != "."]
)
def test_a_module_imports_of_ours_only_what_the_table_allows(module: str):
    assert part(module), f"{module} is in no row of the table"
    allowed = MAY_IMPORT[part(module)]
    stray = {
        name for name in ours(module)
        if part(name) != part(module) and not any(within(name, each) for each in allowed)
    }  # fmt: skip
    assert stray == set()


@pytest.mark.parametrize("library", FOREIGN)
def test_a_library_is_imported_only_where_the_table_says(library: str):
    users = {module for module in MODULES if library in foreign(module)}
    assert {user for user in users if not any(within(user, place) for place in FOREIGN[library])} == set()


@pytest.mark.parametrize("module", MODULES)
def test_inside_the_package_imports_are_relative(module: str):
    assert not foreign(module) & {"service", "vllm_wsgi"}


def test_each_package_is_in_the_table_and_says_what_it_is_for():
    for package in PACKAGES:
        text = ast.get_docstring(MODULES[package]) or ""
        assert len(text.splitlines()) >= 3, f"{package} says too little of itself"
        assert package == "." or package in MAY_IMPORT or any(within(package, each) for each in MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_cancellation_is_lost_in_a_wait(module: str):
    """Before Python 3.12, asyncio.wait_for drops one that comes just as what it waits for is done (bpo-37658)."""
    named = {node.attr for node in ast.walk(MODULES[module]) if isinstance(node, ast.Attribute)}
    assert "wait_for" not in named or "asyncio" not in foreign(module)


def test_every_class_name_is_unique():
    names = [node.name for tree in MODULES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_file_has_more_than_300_lines():
    sizes = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in sizes.items() if lines > 300} == {}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(WITHOUT_BYTES)])
def test_a_dialect_makes_no_bytes(module: str):
    nodes = list(ast.walk(MODULES[module]))
    assert not any(isinstance(node, ast.Constant) and isinstance(node.value, bytes) for node in nodes)
    # A field may be called so.
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    assert not {"bytes", "bytearray"} & set(names)


@pytest.mark.interpreter
def test_the_web_side_loads_without_model_event_loop_or_gevent():
    unwanted = ["vllm", "torch", "asyncio", "gevent"]
    code = f"import service; service.create_blueprint; print(json.dumps([m for m in {unwanted} if m in sys.modules]))"
    assert fresh(code) == []


@pytest.mark.interpreter
def test_the_engine_side_loads_without_the_web_stack_or_the_model():
    unwanted = ["flask", "werkzeug", "gevent", "vllm", "torch"]
    engine = [name for name in MODULES if within(name, "engine") and not within(name, BEHIND_VLLM)]
    if importlib.util.find_spec("huggingface_hub") is None:
        # vLLM brings it; `make check` runs without vLLM.
        engine.remove("engine/hub/download")
    wanted = ", ".join(f"service.{name.replace('/', '.')}" for name in engine if not name.endswith("__main__"))
    web = [name for name in sys.modules if name.startswith("service.web")]
    assert fresh(f"import {wanted}; print(json.dumps([m for m in {unwanted + web} if m in sys.modules]))") == []


def test_the_public_names_are_these():
    names = [
        "Delta",
        "Generation",
        "Inference",
        "ServiceError",
        "Settings",
        "SettingsError",
        "WholeAnswer",
        "__version__",
        "create_blueprint",
        "inference",
        "register_json_errors",
        "stream_response",
    ]
    assert sorted(service.__all__) == names
    assert [name for name in names if not getattr(service, name)] == []


def test_what_is_no_public_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'create_blueprints'"):
        _ = service.create_blueprints


def test_the_distribution_holds_every_package():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    names = ["vllm_wsgi", *(f"vllm_wsgi.{package.replace('/', '.')}" for package in PACKAGES if package != ".")]
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(names)


@pytest.mark.interpreter
def test_the_command_loads_without_the_web_stack_or_an_engine():
    unwanted = ["flask", "gunicorn", "gevent", "asyncio", "vllm", "torch"]
    code = f"import service.cli.command; print(json.dumps([m for m in {unwanted} if m in sys.modules]))"
    assert fresh(code) == []


@pytest.mark.interpreter
def test_importing_the_package_starts_no_thread_and_patches_nothing():
    code = """
import os, select, signal, socket, subprocess, threading, time
places = [(socket, "socket"), (socket, "create_connection"), (threading, "Thread"), (threading, "Lock"),
          (time, "sleep"), (select, "epoll"), (os, "fork"), (subprocess, "Popen"), (sys, "excepthook")]
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return [getattr(*place) for place in places], handlers, threading.enumerate()
before = state()
import service
for name in service.__all__: getattr(service, name)
print(json.dumps(before == state()))
"""
    assert fresh(code) is True
