from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.dialects.fields import Fields
from service.dialects.json_body import MAX_LONE_SURROGATES, parse_json
from service.errors import BadRequest
from service.syntax.numbers import INT64, as_integer

jsonish = st.text('{}[]":,\\ud0129eE+-. \n\x00tfnNaI').map(str.encode)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "missing request body"),
        (b" \r\n\t", "missing request body"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        (b'"x"', "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
        (b"1.5", "json: cannot unmarshal number into Go value of type api.GenerateRequest"),
        (b"true", "json: cannot unmarshal bool into Go value of type api.GenerateRequest"),
        (b"{", "unexpected EOF"),
        (b'{"model":"x"', "unexpected EOF"),
        (b'{"model":"x', "unexpected EOF"),
        (b'{"model":', "unexpected EOF"),
        (b"nul", "unexpected EOF"),
        (b'{"model":"x",}', "invalid character '}' looking for beginning of object key string"),
        (b'{"model":["x",]}', "invalid character ']' looking for beginning of value"),
        (b'{"model":"x", \n}', "invalid character '}' looking for beginning of object key string"),
        (b"{'model':'x'}", "invalid character '\\'' looking for beginning of object key string"),
        (b"model=x", "invalid character 'm' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
        (b"\x1f\x8b", "invalid character '\\x1f' looking for beginning of value"),
        (b'{"a":"\x01"}', "invalid character '\\x01' in string literal"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 1}', "invalid character '1' after object key:value pair"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"a":Infinity}', "invalid character 'I' looking for beginning of value"),
        (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_gos_words(data: bytes, message: str):
    with pytest.raises(BadRequest) as caught:
        parse_json(data, "api.GenerateRequest")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"null", {}),
        (b' \n{"a":1} trailing garbage', {"a": 1}),
        (b'{"a":1}{"a":2}', {"a": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":"\xff\xfeb"}', {"a": "\ufffd\ufffdb"}),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud800b\\uDC00"}', {"a": "\ufffdb\ufffd"}),
        (b'{"\\udfff":["\\ud800",{"b":"\\uD800"}]}', {"\ufffd": ["\ufffd", {"b": "\ufffd"}]}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a":"\\u0000\\\\ud800"}', {"a": "\0\\ud800"}),
        (b'{"a":9223372036854775807}', {"a": 2**63 - 1}),
        (b'{"a":-9223372036854775807}', {"a": 1 - 2**63}),
        (b'{"a":9223372036854775808}', {"a": 2.0**63}),
    ],
)
def test_a_body_is_read_as_leniently_as_go_reads_it(data: bytes, value: dict[str, Any]):
    assert parse_json(data, "GenerateRequest") == value


@pytest.mark.parametrize("depth", [500, 800, 900, 1_000, 100_000])
@pytest.mark.parametrize("leaf", [b"1", b'"\\ud800"'])
def test_a_body_of_any_depth_is_read_or_refused(depth: int, leaf: bytes):
    data = b'{"a":' + b"[" * depth + leaf + b"]" * depth + b"}"
    with suppress(BadRequest):
        assert list(parse_json(data, "GenerateRequest")) == ["a"]


@given(st.binary() | jsonish | jsonish.map(lambda inner: b'{"a":' + inner + b"}"))
@example(b'{"a":' + b"9" * 5000 + b"}")
@example(b'{"a":1e999}')
def test_every_body_is_an_object_or_a_bad_request(data: bytes):
    with suppress(BadRequest):
        assert isinstance(parse_json(data, "GenerateRequest"), dict)


DIGITS = st.from_regex("-?[1-9][0-9]{0,25}", fullmatch=True) | st.sampled_from(["1" + "0" * 400, "-1" + "0" * 5000])


@given(st.lists(DIGITS), st.booleans())
def test_integers_of_more_than_64_bits_are_floats(texts: list[str], expected: bool):
    parsed = parse_json(f'{{"a":[{",".join(texts)}]}}'.encode(), "api.X", long_numbers=expected)["a"]
    assert parsed == [int(text) if len(text) < 30 and int(text) in INT64 else float(text) for text in texts]
    assert all(type(number) is float or number in INT64 for number in parsed)


def test_the_case_of_a_field_does_not_matter():
    fields = Fields({"MODEL": "m", "Stop": [1]}, "GenerateRequest")
    assert (fields.string("model"), fields.array("stop", "[]int")) == ("m", [1])


def test_null_is_the_same_as_absent():
    fields = Fields({"a": None, "b": None, "c": None, "d": None, "e": None}, "GenerateRequest")
    assert (fields.string("a"), fields.boolean("b", True), fields.integer("c", 7)) == ("", True, 7)
    assert (fields.array("d", "[]int"), fields.mapping("e")) == ([], {})


READERS = {
    "string": lambda fields: fields.string("x"),
    "bool": lambda fields: fields.boolean("x", True),
    "int": lambda fields: fields.integer("x"),
    "[]int": lambda fields: fields.integers("x"),
    "[]api.Message": lambda fields: fields.children("x", "[]api.Message", "api.Alias"),
    "map[string]interface {}": lambda fields: fields.mapping("x"),
}


@pytest.mark.parametrize(
    ("go_type", "value", "kind"),
    [
        ("string", 1, "number"),
        ("string", True, "bool"),
        ("string", ["a"], "array"),
        ("string", {}, "object"),
        ("bool", "false", "string"),
        ("bool", 0, "number"),
        ("int", "1", "string"),
        ("int", True, "bool"),
        ("int", 1.5, "number 1.5"),
        ("[]int", "1", "string"),
        ("[]api.Message", {}, "object"),
        ("map[string]interface {}", [], "array"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_its_name(go_type: str, value: Any, kind: str):
    message = f"json: cannot unmarshal {kind} into Go struct field GenerateRequest.x of type {go_type}"
    with pytest.raises(BadRequest) as caught:
        READERS[go_type](Fields({"x": value}, "GenerateRequest"))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("value", "kind"), [(["1"], "string"), ([1, None], "null"), ([[]], "array"), ([1.5], "number 1.5")]
)
def test_an_item_of_the_wrong_type_is_refused(value: Any, kind: str):
    with pytest.raises(BadRequest, match=f"^json: cannot unmarshal {kind} into .*R.context of type int$"):
        Fields({"context": value}, "R").integers("context")


def test_a_field_inside_a_list_is_refused_by_its_path():
    (message,) = Fields({"messages": [{"content": ["part"]}]}, "ChatRequest").children("messages", "", "")
    with pytest.raises(BadRequest, match=r"array into Go struct field ChatRequest.messages.content of type string$"):
        message.string("content")


def test_an_item_that_is_no_object_is_refused():
    with pytest.raises(BadRequest, match=r"string into Go struct field ChatRequest.messages of type api.Alias$"):
        Fields({"messages": ["x"]}, "ChatRequest").children("messages", "[]api.Message", "api.Alias")


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        (7, 7),
        (7.0, 7),
        (-0.0, 0),
        (2**63 - 1, 2**63 - 1),
        (1.5, None),
        (2.0**63, None),
        (float("inf"), None),
        (True, None),
        ("7", None),
        (None, None),
    ],
)
def test_a_number_without_a_fraction_is_an_integer(value: Any, integer: int | None):
    assert as_integer(value) == integer


def test_lone_surrogates_are_replaced_up_to_a_number():
    def body(count: int) -> bytes:
        return b'{"\\ud800": ["' + b"\\udfff" * count + b'", "\\ud55c\\ud83d\\ude00"]}'

    most = MAX_LONE_SURROGATES - 1
    assert parse_json(body(most), "a") == {"\ufffd": ["\ufffd" * most, "\ud55c\U0001f600"]}
    with pytest.raises(BadRequest, match="more than 10000 lone surrogates"):
        parse_json(body(most + 1), "a")


def test_halves_of_characters_are_replaced_and_whole_ones_stay():
    body = rb'{"\ud83d\ude00\ud800": ["\uD83D\uDE00", "\uDFFF", "\ud55c", "\\ud800"]}'
    assert parse_json(body, "x") == {"\U0001f600\ufffd": ["\U0001f600", "\ufffd", "\ud55c", "\\ud800"]}
