from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.go_base64 import decode
from service.errors import BadRequest


@given(st.binary(), st.integers(1, 9))
def test_what_was_encoded_comes_back_with_line_breaks_or_without(data: bytes, width: int):
    text = base64.b64encode(data).decode()
    assert decode(text) == data
    assert decode("\r\n".join(text[start : start + width] for start in range(0, len(text), width))) == data


# Where Go's `decodeQuantum` gives up, case by case.
@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("data:image/png;base64,AAAA", 4),
        ("AA-_", 2),
        ("é", 0),
        ("AAAA AAAA", 4),
        ("A", 0),
        ("AAAAAA", 4),
        ("AAA\nA\nAA", 6),
        ("=", 0),
        ("A=AA", 1),
        ("AA=", 3),
        ("AA=\n", 4),
        ("AA=A", 2),
        ("AA\n=\nA", 4),
        ("AAA==", 4),
        ("AA==A", 4),
        ("AAA=\nAAAA", 5),
    ],
)
def test_the_byte_that_is_wrong_is_the_one_that_go_names(text: str, byte: int):
    with pytest.raises(BadRequest, match=f"^illegal base64 data at input byte {byte}$"):
        decode(text)


@given(st.text(alphabet="AQz+/=\n\r:", max_size=12))
def test_any_text_is_decoded_or_refused(text: str):
    letters = text.replace("\n", "").replace("\r", "")
    whole = re.fullmatch("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", letters)
    try:
        assert decode(text) == base64.b64decode(letters)
        assert whole
    except BadRequest:
        assert not whole
