"""New keys. The command that prints them is tested in tests/unit/cli."""

from __future__ import annotations

from service.access.new_key import new_key


def test_no_two_keys_are_alike_and_each_has_256_bits():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key.removeprefix("vllm-wsgi-")) for key in keys} == {43}
