from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.config import PREFIX, Settings, table
from service.errors import SettingsError

README = Path(__file__).parents[2] / "README.md"


def test_without_variables_every_setting_has_its_default():
    assert Settings.from_env({"PATH": "/bin", "VLLM_PORT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MODEL", "org/name", "org/name"),
        ("MODEL", "7", "7"),
        ("MODEL", "", ""),
        ("HEARTBEAT", "2.5", 2.5),
        ("HEARTBEAT", "3", 3.0),
        ("MAX_BODY", "1024", 1024),
        ("ALLOW_ANYONE", "1", True),
        ("ALLOW_ANYONE", "false", False),
        ("ENGINE_ARGS", '{"max_model_len": 8192}', {"max_model_len": 8192}),
    ],
)
def test_a_variable_is_read_by_its_type(name: str, text: str, value: object):
    read = getattr(Settings.from_env({PREFIX + name: text}), name.lower())
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HEARTBEAT", "soon"),
        ("HEARTBEAT", ""),
        ("HEARTBEAT", "-1"),
        ("HEARTBEAT", "0"),
        ("ENGINE_TIMEOUT", "0.0"),
        ("LOAD_TIMEOUT", "0"),
        ("HEARTBEAT", "nan"),
        ("HEARTBEAT", "inf"),
        ("HEARTBEAT", "10s"),
        ("MAX_BODY", "1.5"),
        ("MAX_BODY", "32M"),
        ("MAX_BODY", "-1"),
        ("ALLOW_ANYONE", "yes"),
        ("ALLOW_ANYONE", ""),
        ("ENGINE_ARGS", "max_model_len=1"),
        ("ENGINE_ARGS", "[]"),
        ("ENGINE_ARGS", "null"),
        ("ENGINE_ARGS", ""),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_variable(name: str, text: str):
    with pytest.raises(SettingsError, match=PREFIX + name):
        Settings.from_env({PREFIX + name: text})


def test_a_misspelt_variable_is_refused_by_its_name():
    with pytest.raises(SettingsError, match="VLLM_WSGI_MODLE is not a setting"):
        Settings.from_env({"VLLM_WSGI_MODLE": "x"})


def test_settings_do_not_share_their_arguments():
    assert Settings().engine_args is not Settings().engine_args


@pytest.mark.interpreter
def test_the_module_prints_its_table():
    command = [sys.executable, "-m", "service.config"]
    printed = subprocess.run(command, cwd=README.parent, check=True, capture_output=True, text=True).stdout
    assert printed == table() + "\n"
