from __future__ import annotations

import os
import runpy
from importlib import import_module, reload
from pathlib import Path
from types import ModuleType

import pytest
from gunicorn.config import Config

import service
from service.gunicorn import conf
from service.gunicorn.conf import bind_address

CONFIGURATION = Path(service.__file__).parent.parent / "gunicorn.conf.py"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The settings as they are without variables."""
    for name in ("HOST", "PORT", "MODEL", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return reload(conf)


def test_gunicorn_knows_each_setting_and_accepts_its_value(loaded: ModuleType):
    config = Config()
    for name in loaded.__all__:
        config.set(name, getattr(loaded, name))
    assert config.address == [("127.0.0.1", 11434)]


def test_the_file_of_a_checkout_has_every_setting(loaded: ModuleType):
    found = runpy.run_path(str(CONFIGURATION))
    assert {name: found[name] for name in loaded.__all__} == {name: getattr(loaded, name) for name in loaded.__all__}


def test_the_worker_class_is_ours(loaded: ModuleType):
    name, _, attribute = loaded.worker_class.rpartition(".")
    assert getattr(import_module(name), attribute).__name__ == "WebWorker"


def test_variables_choose_the_address_the_model_and_the_number_of_workers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VLLM_WSGI_MODEL", raising=False)
    variables = {"HOST": "::1", "PORT": "8080", "MODEL": "org/name", "WEB_CONCURRENCY": "3"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # The module sets this one; monkeypatch takes it back.
    monkeypatch.setenv("VLLM_WSGI_MODEL", "")
    monkeypatch.delenv("VLLM_WSGI_MODEL")
    changed = reload(conf)
    assert (changed.bind, changed.workers) == ("[::1]:8080", 3)
    assert os.environ["VLLM_WSGI_MODEL"] == "org/name"


@pytest.mark.parametrize(("host", "bound"), [("0.0.0.0", "0.0.0.0:80"), ("::", "[::]:80"), ("", ":80")])
def test_an_ipv6_address_stands_in_brackets(host: str, bound: str):
    assert bind_address(host, "80") == bound
