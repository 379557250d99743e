"""Ids and single events are read from messages that can't be decoded."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from service.protocol.events import Delta
from service.protocol.salvage import message_id, single_events
from service.protocol.wire import decode_events, pack
from tests.hostile.messages import values


@given(st.text(max_size=40), st.integers(-(2**63), 2**64 - 1), st.lists(values, max_size=5))
def test_the_id_of_any_message_is_found(tag: str, number: int, fields: list[Any]) -> None:
    try:
        payload = msgspec.msgpack.encode([tag, number, *fields])
    except UnicodeEncodeError:
        return
    assert message_id(payload) == number


@given(st.lists(values, max_size=20))
def test_a_list_is_cut_into_its_values(items: list[Any]) -> None:
    pieces = single_events(msgspec.msgpack.encode(items))
    assert pieces == [msgspec.msgpack.encode(item) for item in items]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_are_a_value_error(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert type(message_id(payload)) is int
    with contextlib.suppress(ValueError):
        assert payload.endswith(b"".join(single_events(payload)))


def test_not_a_number_crosses_the_queue() -> None:
    (event,) = decode_events(pack([Delta(1, 0, "", [], tool_calls=[{"a": math.inf}])])[4:])
    assert isinstance(event, Delta)
