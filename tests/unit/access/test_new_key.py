"""The command that makes a key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.access.key_file import KeyFile
from service.access.new_key import main, new_key
from service.config import Settings


def test_a_made_key_opens_with_the_lines_that_come_with_it(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["new_key", 'a "quoted" name', "--scope", "observe", "--scope", "manage"])
    main()
    printed = capsys.readouterr()
    keys.write_text(printed.out)
    key = printed.err.split()[-1]
    found = KeyFile(Settings(keys=str(keys))).find([key])
    assert (found.caller.name, found.scopes) == ('a "quoted" name', {"observe", "manage"})


def test_no_two_keys_are_alike_and_each_has_256_bits():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key.removeprefix("vllm-wsgi-")) for key in keys} == {43}
