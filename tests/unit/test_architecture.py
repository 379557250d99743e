"""The rules of the layout, as one table: which part may import which, and where foreign libraries may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.source_tree import MODULES, PACKAGE, PACKAGES, within

# What the three dialects share.
DIALECT_BASE = {
    f"dialects/{name}"
    for name in (
        "answer",
        "bounds",
        "content",
        "fields",
        "formats",
        "float32",
        "go_base64",
        "history",
        "images",
        "json_body",
        "plain_text",
        "keeping",
        "text_files",
        "tools",
        "turns",
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
    "limit_settings": {"syntax"},
    "config": {"errors", "limit_settings", "syntax", "transport/address"},
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
    "engine/shares": set(),
    "engine/script": {"protocol"},
    "engine/scripted": {"errors", "protocol", "engine/backend", "engine/script", "engine/vectors"},
    "engine/hub": {"errors", "version", "engine/bell", "engine/parent_death"},
    "engine/vllm": {
        "errors", "protocol", "syntax", "models", "engine/backend", "engine/vectors", "engine/exit_status",
        "engine/shares",
    },
    "engine/worker": {
        "errors", "protocol", "transport", "engine/listener", "engine/backend", "engine/parent_death",
        "engine/scripted", "engine/vllm", "engine/shares",
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


def part(module: str) -> str:
    """The entry of the table that holds for a module; empty where none does."""
    fits = [name for name in MAY_IMPORT if within(module, name)]
    return max(fits, key=len, default="")


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


@pytest.mark.parametrize("module", [name for name in MODULES if name != "."])
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
