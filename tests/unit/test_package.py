"""The package as its users get it: public names, what is loaded with them, and what is packed."""

from __future__ import annotations

import importlib.util
import sys
import tomllib

import pytest

import service
from tests.support.source_tree import MODULES, PACKAGE, PACKAGES, fresh, within

# Loaded in the process of one model only: the host and the scripted engine do without.
BEHIND_VLLM = "engine/vllm"


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
