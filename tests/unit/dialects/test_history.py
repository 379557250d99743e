from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.history import FILE_FIELDS, TEXT_FIELDS, call_arguments, text_in
from service.dialects.json_body import parse_json
from tests.support.any_json import scalars

values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=9
)


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (" ", {}),
        (None, {}),
        ('{"a":', {"arguments": '{"a":'}),
        ("[1]", {"arguments": "[1]"}),
        ("ls -la", {"arguments": "ls -la"}),
        ([1], {"arguments": [1]}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
)
def test_the_arguments_of_an_earlier_call_are_an_object_whatever_a_model_wrote(value: Any, arguments: Any):
    assert call_arguments(value) == arguments


@given(st.text() | values | values.map(json.dumps))
def test_any_arguments_become_an_object_that_crosses_the_queue(value: Any):
    # As a request's body has them: an integer of more than 64 bits is a float there.
    body = parse_json(json.dumps({"arguments": value}).encode(), "Call")
    arguments = call_arguments(body["arguments"])
    assert isinstance(arguments, dict)
    assert msgspec.msgpack.encode(arguments)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": "a"}, {"type": "x", "content": [{"text": "b"}]}], "a\nb"),
        ({"type": "search_result", "title": "t", "source": "https://s", "content": [{"text": "c"}]}, "t\nc\nhttps://s"),
        ({"type": "code_interpreter_call", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}, "1+1\n2"),
        ({"type": "image", "source": {"type": "base64", "data": "QUJD" * 40}}, ""),
        ({"type": "image_generation_call", "result": "QUJD" * 40}, ""),
        ({"type": "computer_screenshot", "image_url": "data:image/png;base64,QUJD"}, ""),
        ({"type": "compaction", "encrypted_content": "gAAAAAB" + "x" * 80}, ""),
        ({"type": "document", "source": {"data": "\n".join(["JVBERi0x" * 9] * 3)}}, ""),
        ({"type": "document", "source": {"type": "text", "data": "QUJD" * 40}}, "QUJD" * 40),
        ({"type": "document", "title": "t", "context": "c", "source": {"type": "text", "data": "d"}}, "t\nc\nd"),
        ({"type": "image", "source": {"data": "data:image/png;base64,QUJD"}}, ""),
        ({"type": "reasoning", "encrypted_content": "data: a thought"}, "data: a thought"),
        (None, ""),
        (5, ""),
    ],
)
def test_the_text_in_a_value_is_found_and_files_are_not_text(value: Any, text: str):
    assert text_in(value) == text


LOOKS_LIKE_A_FILE = [
    "0123456789abcdef" * 4,  # what `docker run -d` prints
    "/usr/lib/python3/dist-packages/" + "a" * 64,
    "=" * 70 + "\nPASSED",
    "-" * 80 + "\n12",
    'data: {"a": 1}\n\n',
    "data:\n  key: value\n",
    "data:image/png;base64,QUJD",
    "QUJD" * 40,
]


@pytest.mark.parametrize("field", [name for name in TEXT_FIELDS if name not in FILE_FIELDS])
@pytest.mark.parametrize("text", LOOKS_LIKE_A_FILE)
def test_a_text_is_text_whatever_it_looks_like(field: str, text: str):
    assert text_in([{"type": "x", field: text}]) == text


@pytest.mark.parametrize("end", ["!", "\n\n", " ", "\r\r"])
def test_a_long_word_before_a_text_is_recognised_as_text_at_once(end: str):
    # A pattern that could split the word in many ways would not end here.
    value = "QUJD" * 25_000 + end
    assert text_in({"text": value}) == value
