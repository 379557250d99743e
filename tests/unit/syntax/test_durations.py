from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.json_body import parse_json
from service.errors import BadRequest
from service.syntax.durations import parse_keep_alive

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
durations = st.text("0123456789.+-hmsnuµ d")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (5, 5),
        (1.5, 1.5),
        ("5m", 300),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("100ms", 0.1),
        ("+5m", 300),
        (".5s", 0.5),
        ("2.s", 2),
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
        ("7ns", 7e-9),
        (-1, math.inf),
        (-0.5, math.inf),
        ("-1m", math.inf),
    ],
)
def test_a_value_is_so_many_seconds(value: Any, seconds: float):
    assert parse_keep_alive(value) == pytest.approx(seconds)


def test_null_leaves_it_to_the_server():
    assert parse_keep_alive(None) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        (" 5m", 'time: invalid duration " 5m"'),
        ("-", 'time: invalid duration "-"'),
        (".", 'time: invalid duration "."'),
        ("--5m", 'time: invalid duration "--5m"'),
        ("٣s", 'time: invalid duration "٣s"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("5M", 'time: unknown unit "M" in duration "5M"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_another_value_is_refused_in_gos_words(value: Any, message: str):
    with pytest.raises(BadRequest) as caught:
        parse_keep_alive(value)
    # The text may name the field first.
    assert caught.value.message.removeprefix("keep_alive: ") == message


@given(values | durations)
def test_every_json_value_is_seconds_or_a_bad_request(value: Any):
    body = parse_json(json.dumps({"keep_alive": value}).encode(), "ChatRequest")
    try:
        seconds = parse_keep_alive(body["keep_alive"])
    except BadRequest:
        return
    assert seconds is None or seconds >= 0


def test_a_duration_of_very_many_terms_is_refused_before_it_is_read():
    assert parse_keep_alive("1h" * 500) == 500 * 3600
    with pytest.raises(BadRequest, match="invalid duration") as refused:
        parse_keep_alive("1h" * 5_000_000)
    assert len(refused.value.message) < 2_000
