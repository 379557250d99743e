from __future__ import annotations

import time

import pytest

from service.access.key_file import ANYONE, Key
from service.access.stream_ids import LINK_SECONDS, is_stream_id_of, key_of_link, new_stream_id, sign_link
from service.protocol.request import Caller

ALICE, BOB = Key(Caller("alice"), digest=b"a" * 32), Key(Caller("bob"), digest=b"b" * 32)
KEYS = {"alice": ALICE, "bob": BOB}


def test_an_id_belongs_to_the_key_that_made_it():
    made = new_stream_id(ALICE)
    assert is_stream_id_of(ALICE, made)
    assert not is_stream_id_of(BOB, made)
    assert not is_stream_id_of(ANYONE, made)
    assert made != new_stream_id(ALICE)


@pytest.mark.parametrize("text", ["", "x", "A" * 32, "é" * 32, "\udcff", "A" * 5000])
def test_what_no_key_has_made_belongs_to_none(text: str):
    assert not is_stream_id_of(ALICE, text)


@pytest.mark.parametrize("wrong", ["{}!", "{}=", "{}\n", "{}====", "!{}", "{}A"])
def test_an_id_with_a_character_too_many_belongs_to_none(wrong: str):
    made = new_stream_id(ALICE)
    assert is_stream_id_of(ALICE, made)
    assert not is_stream_id_of(ALICE, wrong.format(made))


def test_a_link_opens_one_stream_until_it_expires(monkeypatch: pytest.MonkeyPatch):
    # The clock stands still: a link ends with a whole second, which may be over a moment after it was signed.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    made = new_stream_id(ALICE)
    token = sign_link(ALICE, made)
    assert key_of_link(token, made, KEYS.get) == ALICE
    assert key_of_link(token, new_stream_id(ALICE), KEYS.get) is None
    monkeypatch.setattr(time, "time", lambda: now + LINK_SECONDS - 1)
    assert key_of_link(token, made, KEYS.get) == ALICE
    monkeypatch.setattr(time, "time", lambda: now + LINK_SECONDS + 1)
    assert key_of_link(token, made, KEYS.get) is None


def test_a_link_ends_with_its_key():
    made = new_stream_id(ALICE)
    token = sign_link(ALICE, made)
    assert key_of_link(token, made, {}.get) is None
    changed = Key(Caller("alice"), digest=b"c" * 32)
    assert key_of_link(token, made, {"alice": changed}.get) is None


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("text", ["", "x", "1", "9" * 99, "٣", "é", "\udcff", "Ym9i"])
def test_a_link_that_was_changed_opens_nothing(part: int, text: str):
    made = new_stream_id(ALICE)
    parts = sign_link(ALICE, made).split(".")
    parts[part] = text
    assert key_of_link(".".join(parts), made, KEYS.get) is None
