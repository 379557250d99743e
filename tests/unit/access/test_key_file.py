"""A keys.toml: what it may hold, how a mistake is named, and that a change is read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import key_file
from service.access.key_file import KeyFile, read_keys
from service.access.scopes import SCOPES, Scope
from service.config import Settings
from service.errors import Forbidden, SettingsError, Unauthorized
from service.protocol.request import Caller
from service.syntax.toml_file import MAX_BYTES
from tests.support.keys import table

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "deploy" / "keys.toml.example"


def test_the_example_is_read_and_shows_every_field():
    alice, nightly = read_keys(EXAMPLE, Caller())
    assert alice.caller == Caller("alice", 0, 4, 60_000, 16_000, 2_000)
    assert alice.digest == hashlib.sha256(b"example").digest()
    assert (alice.scopes, nightly.scopes, nightly.caller.priority) == ({"inference"}, set(SCOPES), 10)
    assert all(f"\n{field} = " in EXAMPLE.read_text() for field in Caller.__struct_fields__ if field != "name")


def test_what_a_key_leaves_open_the_settings_decide(keys: Path):
    keys.write_text(table("a", "inference") + table("b", "inference", more="max_output_tokens = 0"))
    first, second = read_keys(keys, Caller(max_prompt_tokens=7, max_output_tokens=8))
    assert (first.caller.max_prompt_tokens, first.caller.max_output_tokens) == (7, 8)
    assert (second.caller.max_prompt_tokens, second.caller.max_output_tokens) == (7, 0)


HASH = 'hash = "sha256:' + "0" * 64 + '"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[keys.a]\nscopes = ['observe']", 'line 1: keys."a": has no hash; `vllm-wsgi key NAME`'),
        (f"[keys.a]\n{HASH}", 'line 1: keys."a": needs scopes, of inference, manage, observe'),
        (f"[keys.a]\n{HASH}\nscopes = []", 'line 3: keys."a".scopes: needs scopes'),
        (f"[keys.a]\n{HASH}\nscopes = ['admin']", "line 3: keys.\"a\".scopes: 'admin' is not a scope; known are"),
        (f"[keys.a]\n{HASH}\nscopes = [1]", 'line 3: keys."a".scopes: 1 is not a scope'),
        (f"[keys.a]\n{HASH}\nscopes = 'observe'", 'line 3: keys."a".scopes: must be a list'),
        ('[keys.a]\nhash = "sha256:ABC"\nscopes = ["observe"]', 'line 2: keys."a".hash: must be "sha256:" and 64'),
        ("[keys.a]\nkey = 'secret'", 'line 2: keys."a".key: is unknown; known are hash, scopes, priority'),
        ("[keys.a]\npriority = true", 'line 2: keys."a".priority: must be a whole number'),
        (f"[keys.a]\npriority = {-(2**64)}", 'line 2: keys."a".priority: does not fit into 64 bits'),
        ("[keys.a]\nmax_concurrent = -1", 'line 2: keys."a".max_concurrent: must not be negative'),
        (f"[keys.'']\n{HASH}", 'line 1: keys."": must have a name'),
        ("[key.a]", 'line 1: key: is unknown; a key stands in a table of its own, [keys."name"]'),
        ("keys = 1", "line 1: keys: must hold tables"),
        ("[keys]\na = 1", 'line 2: keys."a": must be a table'),
        ("[keys.a", "line 1: "),
        (table("a", "observe") + table("b", "observe").replace(hashlib.sha256(b"b").hexdigest(),
         hashlib.sha256(b"a").hexdigest()), 'line 6: keys."b".hash: is that of "a" too'),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(keys: Path, text: str, message: str):
    keys.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_keys(keys, Caller())
    assert caught.value.message.startswith(f"{keys}, {message}")


@pytest.fixture
def file(keys: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFile:
    """The keys of the file, which looks at it each time that it is asked."""
    monkeypatch.setattr(key_file, "LOOK_SECONDS", 0.0)
    return KeyFile(Settings(keys=str(keys)))


def test_a_file_is_read_again_when_it_has_changed(file: KeyFile, keys: Path):
    assert file.find(["wrong", "observe"]).caller.name == "observe"
    fresh = keys.with_suffix(".new")
    fresh.write_text(table("new", "observe"))
    os.replace(fresh, keys)
    assert knows(file, "new")
    assert not knows(file, "observe")
    keys.write_text("")
    assert not knows(file, "new")


def test_a_file_is_looked_at_once_in_a_while(file: KeyFile, keys: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_file, "LOOK_SECONDS", 1e9)
    keys.write_text("")
    assert knows(file, "observe")


def test_a_change_is_noticed_though_size_and_time_are_as_before(file: KeyFile, keys: Path):
    before = keys.stat()
    changed = keys.read_text().replace(*(hashlib.sha256(key).hexdigest() for key in (b"observe", b"changed")))
    # The clock of file systems moves in steps of some milliseconds.
    while keys.stat().st_ctime_ns == before.st_ctime_ns:
        keys.write_text(changed)
        os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert knows(file, "changed")
    assert not knows(file, "observe")


def test_a_link_that_is_swapped_is_noticed_as_with_kubernetes_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_file, "LOOK_SECONDS", 0.0)
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys.toml").write_text(table(version, "observe"))
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "keys.toml").symlink_to("..data/keys.toml")
    file = KeyFile(Settings(keys=str(tmp_path / "keys.toml")))
    (tmp_path / "..tmp").symlink_to("new")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    assert knows(file, "new")
    assert not knows(file, "old")


@pytest.mark.parametrize("damage", ["[keys.a]\nhash = 1", None])
def test_a_broken_file_leaves_the_keys_as_they_were(
    file: KeyFile, keys: Path, damage: str | None, caplog: pytest.LogCaptureFixture
):
    keys.unlink()
    if damage:
        keys.write_text(damage)
    with caplog.at_level(logging.ERROR, "vllm_wsgi.access"):
        assert knows(file, "observe")
    (message,) = caplog.messages
    assert message.startswith("the keys stay as they were: ")
    assert ("line 2" if damage else "can't be read") in message


DEEP = 100_000
UNPARSABLE = {
    "lists": f"z={'[' * DEEP}",
    "closed lists": f"z={'[' * DEEP}{']' * DEEP}",
    "tables": f"z={'{a=' * DEEP}",
    "dotted": f"z{'.a' * DEEP}=1",
    "dotted in quotes": "z" + '."a b"' * DEEP + "=1",
    "dotted in single quotes": "z" + " . 'a b'" * DEEP + "=1",
    "dotted table": f"[keys.a{'.a' * DEEP}]",
    "digits": f"z={'9' * DEEP}",
    "digits of a priority": f"[keys.a]\npriority={'9' * DEEP}",
    "hexadecimal digits": f"[keys.a]\n{HASH}\nscopes=[0x{'f' * DEEP}]",
    "decimal places": f"[keys.a]\npriority=1.{'9' * DEEP}",
    "a scope in lists": f"[keys.a]\n{HASH}\nscopes={'[' * 200}{']' * 200}",
    "a long scope": f'[keys.a]\n{HASH}\nscopes=["{"a" * DEEP}"]',
    "a long name": f"[keys.{'a' * DEEP}]",
    "many lines": "\n" * DEEP + "z = 1",
    "many keys and a mistake": "".join(f"[keys.a{n}]\n{HASH}\nscopes=['observe']\n" for n in range(500)),
    "an open string": '[keys.a]\nhash = """' + "\n" * DEEP,
    "a byte order mark": "\ufeff[keys.a]",
    "a date": "[keys.a]\nhash = 1979-05-27",
    "not a date": "[keys.a]\nhash = 1979-13-99",
}


@pytest.mark.parametrize("kind", UNPARSABLE)
def test_what_can_not_be_parsed_leaves_the_keys_as_they_were_and_ends_a_start_with_a_sentence(
    file: KeyFile, keys: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    keys.write_text(UNPARSABLE[kind], encoding="utf-8")
    with caplog.at_level(logging.ERROR, "vllm_wsgi.access"):
        assert knows(file, "observe")
    (message,) = caplog.messages
    assert message.startswith("the keys stay as they were: ")
    assert len(message) < 1000
    with pytest.raises(SettingsError) as caught:
        KeyFile(Settings(keys=str(keys)))
    assert str(keys) in caught.value.message


def test_a_file_of_many_megabytes_is_not_parsed(file: KeyFile, keys: Path):
    keys.write_bytes(bytes(MAX_BYTES + 1))
    assert knows(file, "observe")
    with pytest.raises(SettingsError, match="is longer than"):
        KeyFile(Settings(keys=str(keys)))


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.dates() | st.text() | st.sampled_from(["observe", "sha256:0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
FIELDS = st.dictionaries(st.sampled_from(["hash", "scopes", "priority", "max_concurrent", "key", ""]), VALUES)


def toml(value: object) -> str:
    """The value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, (str, bool)):
        return json.dumps(value)
    return str(value)


@given(tables=st.dictionaries(st.text(), FIELDS, max_size=3), junk=st.text(max_size=20) | st.just(""))
def test_whatever_a_file_says_is_keys_or_a_settings_error(tmp_path_factory: Any, tables: Any, junk: str):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    lines = [f"[keys.{json.dumps(name)}]\n" + "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in
             fields.items()) for name, fields in tables.items()]  # fmt: skip
    path.write_text("".join(lines) + junk, encoding="utf-8", errors="surrogatepass")
    assert _said_of(path)


def _said_of(path: Path) -> bool:
    """Whether the file has been read, each key with its caller, or refused with its own name."""
    try:
        return all(key.caller.name for key in read_keys(path, Caller()))
    except SettingsError as error:
        return str(path) in str(error)


def knows(file: KeyFile, key: str) -> bool:
    try:
        return bool(file.find([key]))
    except Unauthorized:
        return False


def test_a_key_may_do_what_its_scopes_say_and_what_any_key_may(keys: Path):
    (key,) = [each for each in read_keys(keys, Caller()) if each.caller.name == "observe"]
    key.check(Scope.ANY)
    key.check(Scope.OBSERVE)
    with pytest.raises(Forbidden, match='key "observe" lacks the scope "manage"'):
        key.check(Scope.MANAGE)
