from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import service

PACKAGE = Path(service.__file__).parent
# Each module by its path inside the package: "engine.host".
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}
ENGINE = sorted(name for name in MODULES if name.startswith("engine."))
# These load in the process of one model only: the host and the scripted engine do without.
VLLM = {"engine.asyncllm", "engine.outputs", "engine.pace", "engine.parse", "engine.vision"}
# What both sides speak of. In a models.toml the operator writes durations and options as Ollama's clients do.
SHARED = {"errors", "messages", "config", "names", "keep_alive", "ollama_options", "body", "toml_file"}
WEB = sorted(set(MODULES) - set(ENGINE) - SHARED - {"__init__"})

# What the lower modules may import of ours; who is not named here may import anything of its side.
MAY_IMPORT = {
    "errors": set(),
    "messages": {"errors"},
    "config": {"errors", "keep_alive"},
    "names": {"errors"},
    "body": {"errors"},
    "toml_file": {"config", "errors"},
    "auth": {"config", "errors", "messages", "toml_file"},
    "go_base64": {"errors"},
    "keep_alive": {"errors"},
    "framing": {"errors"},
    "drain": set(),
    "entry": {"errors", "messages"},
    "health": {"client", "drain", "errors"},
    "request_log": {"entry", "messages"},
    "traces": {"config", "entry"},
    "negotiation": {"errors", "framing"},
    "ollama_options": {"errors", "messages", "body"},
    "ollama_models": {"messages"},
    "float32": set(),
    "hosts": set(),
    "ollama_embeddings": {"errors", "messages", "body", "names", "keep_alive", "ollama_options", "float32"},
    "answer": {"errors", "messages"},
    "ollama": {"answer", "errors", "messages", "body", "go_base64", "names", "keep_alive", "ollama_options"},
    "images": {"errors", "messages", "go_base64"},
    "anthropic": {"answer", "errors", "messages", "body", "images", "names", "ollama_options"},
    "openai": {"answer", "errors", "messages", "body", "names"},
    "openai_chat": {"errors", "messages", "body", "images", "openai"},
    "openai_completions": {"errors", "messages", "body", "openai"},
    "openai_embeddings": {"errors", "messages", "body", "openai", "float32"},
    "openai_models": {"messages", "names"},
    "openai_responses": {"answer", "errors", "messages", "body", "images", "openai"},
    "engine.go_template": {"errors"},
    "engine.sampling": {"messages"},
    "engine.pooling": set(),
    "engine.selection": set(),
    "engine.vectors": {"errors"},
    "engine.admission": {"errors", "messages"},
    "engine.metrics": {"messages"},
    "engine.scripted": {"errors", "messages", "engine.admission", "engine.vectors"},
}
DIALECTS = [
    "answer", "ollama", "ollama_embeddings", "ollama_models", "ollama_options", "anthropic",
    "openai", "openai_chat", "openai_completions", "openai_embeddings", "openai_models", "openai_responses",
]  # fmt: skip


def imports(module: str) -> list[tuple[str, bool]]:
    """What the module imports anywhere in it, and whether of ours; ours by their paths inside the package."""
    found: list[tuple[str, bool]] = []
    package = module.split(".")[:-1]
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.module or "", False))
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1]
            for alias in node.names:
                path = [*home, *([node.module] if node.module else []), alias.name]
                # A name out of a module, or the module itself.
                found.append((".".join(path if ".".join(path) in MODULES else path[:-1]) or "__init__", True))
    return found


def ours(module: str) -> set[str]:
    return {name for name, is_ours in imports(module) if is_ours}


def foreign(module: str) -> set[str]:
    return {name.partition(".")[0] for name, is_ours in imports(module) if not is_ours}


def fresh(code: str) -> list[str]:
    """What `code` prints as JSON, in an interpreter that has imported nothing."""
    command = [sys.executable, "-c", f"import json, sys\n{code}"]
    run = subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("module", MODULES)
def test_inside_the_package_imports_are_relative(module: str):
    assert "service" not in foreign(module)


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_a_lower_module_imports_nothing_above_itself(module: str):
    assert ours(module) <= MAY_IMPORT[module]


@pytest.mark.parametrize("module", WEB)
def test_the_web_side_imports_neither_the_model_nor_an_event_loop_nor_the_engine_side(module: str):
    assert not foreign(module) & {"vllm", "torch", "asyncio"}
    assert not ours(module) & {*ENGINE, "engine.__init__"}


@pytest.mark.parametrize("module", ENGINE)
def test_the_engine_side_imports_neither_the_web_stack_nor_the_web_side(module: str):
    assert not foreign(module) & {"flask", "werkzeug", "gevent", "gunicorn"}
    assert not ours(module) & set(WEB)


@pytest.mark.parametrize("module", sorted(set(MODULES) - VLLM))
def test_vllm_is_imported_nowhere_but_behind_its_seam(module: str):
    assert not foreign(module) & {"vllm", "torch"}


@pytest.mark.parametrize("module", DIALECTS)
def test_a_dialect_knows_no_bytes_and_no_flask(module: str):
    assert not foreign(module) & {"flask", "werkzeug"}
    nodes = list(ast.walk(MODULES[module]))
    assert not any(isinstance(node, ast.Constant) and isinstance(node.value, bytes) for node in nodes)
    # A field may be called so.
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    assert not {"bytes", "bytearray"} & set(names)


def test_the_web_side_loads_without_model_event_loop_or_gevent():
    unwanted = ["vllm", "torch", "asyncio", "gevent"]
    code = f"import service; service.create_blueprint; print(json.dumps([m for m in {unwanted} if m in sys.modules]))"
    assert fresh(code) == []


def test_the_engine_side_loads_without_the_web_stack_or_the_model():
    unwanted = ["flask", "werkzeug", "gevent", "vllm", "torch", *(f"service.{name}" for name in WEB)]
    wanted = ", ".join(f"service.{name}" for name in ENGINE if name not in {"engine.__init__", *VLLM})
    assert fresh(f"import {wanted}; print(json.dumps([m for m in {unwanted} if m in sys.modules]))") == []


def test_the_public_names_are_these():
    assert sorted(service.__all__) == ["Settings", "SettingsError", "create_blueprint", "register_json_errors"]
    assert [name for name in service.__all__ if not callable(getattr(service, name))] == []


def test_what_is_no_public_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'create_blueprints'"):
        _ = service.create_blueprints


def test_importing_the_package_starts_no_thread_and_patches_nothing():
    code = """
import os, select, signal, socket, subprocess, threading, time
places = [(socket, "socket"), (socket, "create_connection"), (threading, "Thread"), (threading, "Lock"),
          (time, "sleep"), (select, "epoll"), (os, "fork"), (subprocess, "Popen"), (sys, "excepthook")]
before = [getattr(*place) for place in places], [signal.getsignal(n) for n in signal.valid_signals()], threading.enumerate()
import service
for name in service.__all__: getattr(service, name)
after = [getattr(*place) for place in places], [signal.getsignal(n) for n in signal.valid_signals()], threading.enumerate()
print(json.dumps(before == after))
"""  # noqa: E501
    assert fresh(code) is True
