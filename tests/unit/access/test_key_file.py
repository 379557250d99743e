"""A keys.toml: what it may hold, how a mistake is named, and that a change is read."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from service.access import key_file
from service.access.key_file import KeyFile, read_keys
from service.access.scopes import SCOPES, Scope
from service.config import Settings
from service.errors import Forbidden, SettingsError, Unauthorized
from service.protocol.request import Caller
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
