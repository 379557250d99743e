"""The number of values in a JSON body, counted before they are made."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.json_size import MAX_MARKS, MAX_OBJECTS, JSONSize
from service.errors import BadRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(['"', "\\", '\\"', ",,:[{"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
)


def marks(value: Any) -> int:
    """How many commas, colons and opening brackets the JSON of a value needs."""
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(marks, value))
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + len(value) + sum(map(marks, value.values()))
    return 0


@given(value=JSON, ascii_only=st.booleans(), sizes=st.lists(st.integers(1, 9), min_size=1))
def test_the_marks_of_a_body_are_counted_outside_of_its_texts_however_it_is_cut(
    value: Any, ascii_only: bool, sizes: list[int]
):
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    size, start = JSONSize(), 0
    for length in itertools.cycle(sizes):
        size.add(data[start : start + length])
        start += length
        if start >= len(data):
            break
    assert size.marks == marks(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":[' + b"0," * MAX_MARKS + b"0]}",
        b'{"a":[' + b'"",' * MAX_MARKS + b"0]}",
        b'{"a":[' + b'"\\"",' * MAX_MARKS + b"0]}",
        b'{"a":[' + b"{}," * MAX_MARKS + b"0]}",
        b"{" + b'"a":0,' * MAX_MARKS + b'"a":0}',
        b"[" * MAX_MARKS + b"[",
    ],
)  # fmt: skip
def test_a_body_of_too_many_values_is_refused_before_they_are_made(data: bytes):
    with pytest.raises(BadRequest, match="too many values"):
        JSONSize().add(data)


def test_a_long_text_may_hold_any_number_of_marks():
    size, text = JSONSize(), 'a "quoted", \\ text: ' * MAX_MARKS
    size.add(json.dumps({"prompt": text}).encode())
    assert size.marks == marks({"prompt": text}) < 10


@pytest.mark.parametrize(
    ("value", "is_long"),
    [("9" * 5000, True), ("-0." + "1" * 20, True), (str(-(2**63)), False), ('"' + "9" * 5000 + '"', False)],
)
def test_numbers_of_many_digits_are_noticed(value: str, is_long: bool):
    size = JSONSize()
    size.add(f'{{"a":{value}}}'.encode())
    assert size.long_numbers is is_long


def test_objects_are_bounded_apart_since_more_is_made_of_them():
    size = JSONSize()
    size.add(b"{}" * MAX_OBJECTS + b'"{"')
    with pytest.raises(BadRequest, match=f"more than {MAX_OBJECTS} objects"):
        size.add(b"{")
