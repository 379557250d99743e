from __future__ import annotations

import pytest

from service.engine.vllm.tool_calls import CallPieces, ParsedCall, call_record, is_json, parsed_call


def test_the_pieces_of_a_call_are_put_together():
    pieces = CallPieces()
    for index, name, arguments in ((0, "add", ""), (0, "", '{"a"'), (1, "now", ""), (0, "", ": 1}")):
        pieces.add(index, name, arguments)
    assert pieces.newest == 1
    assert pieces.take() == [ParsedCall("add", {"a": 1}), ParsedCall("now", {})]
    assert not pieces


def test_pieces_of_a_call_that_was_taken_are_dropped():
    pieces = CallPieces()
    pieces.add(0, "add", "{}")
    pieces.take()
    pieces.skip(1)
    pieces.add(0, "", "}")
    pieces.add(1, "late", "{}")
    assert not pieces
    pieces.add(2, "next", "{}")
    assert pieces.take() == [ParsedCall("next", {})]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("", "{}"),
        ("f", "[]"),
        ("f", '{"a":'),
        ("f", '{"a": NaN}'),
        ("f", '{"a": -Infinity}'),
        ("f", "1"),
        ("f", '"text"'),
        ("f", '{"a": ' + "[" * 100_000),
    ],
)
def test_what_is_no_object_under_a_name_is_not_a_call(name: str, arguments: str):
    assert parsed_call(name, arguments) is None


@pytest.mark.parametrize(
    ("arguments", "values"), [("", {}), ("{}", {}), (r'"{\"a\": 1}"', {"a": 1}), (' {"a": [1]}\n', {"a": [1]})]
)
def test_arguments_are_an_object_or_a_text_of_one_or_nothing(arguments: str, values: dict[str, object]):
    assert parsed_call("f", arguments) == ParsedCall("f", values)


def test_a_record_is_as_ollamas_clients_expect_it():
    record = call_record(2, ParsedCall("f", {"a": 1}))
    assert record["function"] == {"index": 2, "name": "f", "arguments": {"a": 1}}
    assert record["id"].startswith("call_")


@pytest.mark.parametrize(("text", "expected"), [("{}", True), ("[1]", True), ("{", False), ("", False), ("NaN", False)])
def test_other_text_is_not_json(text: str, expected: bool):
    assert is_json(text) is expected
