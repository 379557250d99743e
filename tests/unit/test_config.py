from __future__ import annotations

import math
import os
import re

import pytest

from service.config import PREFIX, Settings, table
from service.errors import SettingsError
from service.syntax.setting import Documented, Group


def test_without_variables_every_setting_has_its_default():
    assert Settings.from_env({"PATH": "/bin", "VLLM_PORT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MODEL", "org/name", "org/name"),
        ("MODEL", "7", "7"),
        ("MODEL", "", ""),
        ("ENGINE", "scripted", "scripted"),
        ("KEEP_ALIVE", "1h30m", 5400.0),
        ("KEEP_ALIVE", "30", 30.0),
        ("KEEP_ALIVE", "-1", math.inf),
        ("HEARTBEAT", "2.5", 2.5),
        ("HEARTBEAT", "3", 3.0),
        ("MAX_BODY", "1024", 1024),
        ("ALLOW_ANYONE", "1", True),
        ("ALLOW_ANYONE", "false", False),
        ("ENGINE_ARGS", '{"max_model_len": 8192}', {"max_model_len": 8192}),
        ("TRACES", "", None),
        ("TRACES", "http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
        ("OLLAMA_VERSION", "0.33.0-rc1", "0.33.0-rc1"),
        ("ORIGINS", "https://a.example/, http://*.b.example", ("https://a.example", "http://*.b.example")),
        ("ORIGINS", "*", ("*",)),
        ("ORIGINS", "app://*", ("app://*",)),
        ("HOSTS", " LLM.example,203.0.113.7,::1,", ("llm.example", "203.0.113.7", "::1")),
        ("HOSTS", "", ()),
    ],
)
def test_a_variable_becomes_a_value(name: str, text: str, value: object):
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
        ("HEARTBEAT", "\udcff"),
        ("ENGINE_ARGS", "\udcff"),
        ("MAX_BODY", "9" * 5000),
        ("MAX_BODY", "1.5"),
        ("MAX_BODY", "32M"),
        ("MAX_BODY", "-1"),
        ("MAX_BODY", "9223372036854775808"),
        ("ALLOW_ANYONE", "yes"),
        ("ALLOW_ANYONE", ""),
        ("ENGINE_ARGS", "max_model_len=1"),
        ("ENGINE_ARGS", "[]"),
        ("ENGINE_ARGS", "null"),
        ("ENGINE_ARGS", ""),
        ("ENGINE", "scirpted"),
        ("ENGINE", ""),
        ("TRACES", "nonsense"),
        ("TRACES", "127.0.0.1:4318"),
        ("TRACES", "http://"),
        ("TRACES", "http://collector:port/v1/traces"),
        ("TRACES", "http://[::1/v1/traces"),
        ("OLLAMA_VERSION", "banana"),
        ("OLLAMA_VERSION", "1.0"),
        ("KEEP_ALIVE", "5 minutes"),
        ("PREFIX", "llm"),
        ("ORIGINS", "chat.example.com"),
        ("ORIGINS", "https://a.example/path"),
        ("ORIGINS", "https://*.*.example"),
        ("HOSTS", "https://llm.example"),
        ("HOSTS", "llm.example:8080"),
        ("HOSTS", "llm.example/path"),
    ],
)
def test_a_text_that_is_not_valid_is_refused_by_the_name_of_its_variable(name: str, text: str):
    # A message is cut where it repeats a long text.
    with pytest.raises(SettingsError, match=re.escape(f"{PREFIX}{name}={text!r}: "[: SettingsError.max_characters])):
        Settings.from_env({PREFIX + name: text})
    with pytest.raises(SettingsError, match=PREFIX + name):
        Settings(**{name.lower(): text})


def test_a_wrong_choice_is_told_the_right_ones():
    with pytest.raises(SettingsError, match=r"^VLLM_WSGI_ENGINE='scirpted': not one of vllm, scripted$"):
        Settings(engine="scirpted")


def test_a_misspelt_variable_is_refused_by_its_name():
    with pytest.raises(SettingsError, match="VLLM_WSGI_MODLE is not a setting"):
        Settings.from_env({"VLLM_WSGI_MODLE": "x"})


def test_the_environment_is_the_default_source(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VLLM_WSGI_MAX_QUEUE", "7")
    assert Settings.from_env().max_queue == 7


def test_python_code_may_give_values_and_texts():
    settings = Settings(keep_alive=300, hosts="a.example, b.example", origins=("https://a.example",))
    assert (settings.keep_alive, settings.hosts) == (300, ("a.example", "b.example"))
    assert settings.origins == ("https://a.example",)


def test_settings_do_not_share_their_arguments():
    assert Settings().engine_args is not Settings().engine_args


def test_the_table_has_every_setting_group_by_group():
    rows = list(table())
    assert rows[0] == Documented(
        "VLLM_WSGI_MODEL", "models/demo", "The model: a local directory or a Hugging Face repository.", Group.MODEL
    )
    assert Settings.from_env({row.variable: row.default for row in rows}) == Settings()
    order = [*Group]
    assert [row.group for row in rows] == sorted((row.group for row in rows), key=order.index)


def test_a_sentence_says_one_thing_at_a_time():
    """HOUSE rules: a full stop at the end, and no sentence of more than 25 words."""
    for row in table():
        assert row.sentence.endswith(".")
        assert max(len(sentence.split()) for sentence in re.split(r"[.:] ", row.sentence)) <= 25, row.variable
