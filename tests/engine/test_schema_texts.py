"""What a client's schema allows, text by text: patterns, lengths, branches, references. xgrammar without an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.engine.vllm.grammars import Grammars
from service.errors import BadRequest
from tests.support.grammar_matching import accepts

GRAMMARS = Grammars("auto")
TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean"}


def obj(properties: dict[str, Any], *required: str, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **fields}


def pattern(text: str) -> dict[str, Any]:
    return {"type": "string", "pattern": text}


BASE = {"Base": obj({"base": FLAG}, "base")}

# A schema, values that fit it, and texts that do not.
CASES: dict[str, tuple[dict[str, Any], list[Any], list[str]]] = {
    "a backslash in a pattern": (pattern(r"^C:\\[a-z]{3}$"), ["C:\\abc"], ['"C:\\son"', '"C:abc"']),
    "quotes in a pattern": (pattern('^"[a-z]{3}"$'), ['"abc"'], ['""abc""']),
    "a tab in a pattern": (pattern(r"^a\tb$"), ["a\tb"], ['"a\tb"', '"ab"']),
    "a negated class": (pattern("^[^,]+$"), ['a "quoted" text', "C:\\", "two\nlines"], ['"a,b"', '""']),
    "an optional group": (pattern(r"^v\d+(-[a-z]+)?$"), ["v1", "v1-rc"], ['"v1rc"', '"v1-"']),
    "a repeated group": (pattern(r"^[A-Z]{3}(/[A-Z]+)*$"), ["ABC", "ABC/D/E"], ['"ABCD"', '"ABC/"']),
    "a name with a quote": (
        {"type": "object", "patternProperties": {'^"k$': FLAG}, "additionalProperties": False},
        [{'"k': True}], ['{""k": true}'],
    ),
    "a least length": ({"type": "string", "minLength": 1}, ['a"b', "a\nb", "a\\b", "é😀"], ['""', '"a"b"']),
    "a greatest length": ({"type": "string", "maxLength": 2}, ["", '"\n', "😀😀"], ['"abc"', r'"\n\n\n"']),
    "code in an argument": (
        obj({"path": TEXT, "content": {"type": "string", "minLength": 1}}, "path", "content"),
        [{"path": "a.py", "content": 'print("hi")\n'}], ['{"path": "a.py", "content": ""}'],
    ),
    "required in branches": (
        obj({"a": FLAG, "b": FLAG}, anyOf=[{"required": ["a"]}, {"required": ["b"]}], additionalProperties=False),
        [{"a": True}, {"b": True}, {"a": True, "b": False}], ["4", "{}"],
    ),
    "a length beside branches": (
        {"type": "string", "anyOf": [{"minLength": 2, "maxLength": 3}, {"const": "b"}]},
        ["ab", "abc", "b"], ["true", '"a"', '"abcd"'],
    ),
    "properties beside branches": (
        obj({"id": {"type": "integer"}}, "id", oneOf=[obj({"t": {"const": "a"}}, "t"), obj({"u": FLAG}, "u")]),
        [{"id": 1, "t": "a"}, {"id": 1, "u": True}], ['{"t": "a"}', '{"id": 1}'],
    ),
    "inheritance": (
        {**obj({"x": FLAG}, "x"), "allOf": [{"$ref": "#/$defs/Base"}], "$defs": BASE},
        [{"base": True, "x": True}], ['{"base": true}', '{"x": true}'],
    ),
    "inheritance of two levels": (
        {"allOf": [{"allOf": [obj({"a": FLAG}, "a")]}, obj({"b": FLAG}, "b")]}, [{"a": True, "b": True}],
        ["4", '{"a": true}'],
    ),
    "a condition beside properties": (
        obj({"a": FLAG}, "a", allOf=[{"if": {"required": ["a"]}, "then": {"required": ["a"]}}]), [{"a": True}], ["4"],
    ),
    "two branches with one property": (
        {"allOf": [obj({"s": TEXT}, "s"), obj({"s": {"enum": ["x", "y"]}})]}, [{"s": "x"}], ['{"s": "z"}'],
    ),
    "two minima": ({"allOf": [{"type": "integer", "minimum": 1}, {"minimum": 5}]}, [5, 60], ["1", "4"]),
    "keywords beside a reference": (
        {"$ref": "#/$defs/Base", **obj({"x": FLAG}, "x"), "$defs": BASE}, [{"base": True, "x": True}],
        ['{"base": true}'],
    ),
    "a date and a time": (
        {"type": "string", "format": "date-time"},
        ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123Z", "2024-01-01T00:00:00+01:00"],
        ['"2024-01-01T00:00:001234Z"', '"2024-01-01"'],
    ),
    "a time": ({"type": "string", "format": "time"}, ["10:00:00Z", "10:00:00.5Z"], ['"10:00:0033Z"']),
    "tiny bounds": ({"type": "number", "minimum": 1e-10, "maximum": 1e-9}, [0.0000000005], ["true"]),
    "an escaped pointer": ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": FLAG}}, [True], ["1"]),
    "a pointer in per cent": ({"$ref": "#/$defs/List%5Bint%5D", "$defs": {"List[int]": FLAG}}, [True], ["1"]),
    "a pointer into a branch": (
        {"oneOf": [FLAG, obj({"a": {"$ref": "#/oneOf/0"}}, "a")]}, [True, {"a": True}], ['{"a": 1}'],
    ),
    "an anchor": ({"$ref": "#flag", "$defs": {"F": {"$anchor": "flag", **FLAG}}}, [True], ["1"]),
    "a property that may not be there": (obj({"a": False, "b": FLAG}, "b"), [{"b": True}], ['{"a": 1}']),
    "a bound between integers": ({"type": "integer", "minimum": 0.5}, [1, 20], ["true"]),
    "a required name without a property": ({"type": "object", "required": ["b"]}, [{"b": 2}], ["{}", "4"]),
    "zod's uuid": (
        {"type": "string", "format": "uuid", "pattern":
         "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
         "|00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff)$"},
        ["123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"],
        ['"123e4567-e89b-92d3-a456-426614174000"'],
    ),
    "a pattern that is stricter than its format": (
        {"type": "string", "format": "date-time", "pattern": r"^[\d-]{10}T[\d:]{8}Z$"}, ["2024-01-01T00:00:00Z"],
        ['"2024-01-01T00:00:00+01:00"'],
    ),
    "an address": (
        {"type": "string", "format": "ipv4"}, ["0.10.200.255"], ['"012.33.94.7"', '"256.1.1.1"', '"1.2.3"'],
    ),
    "a duration": (
        {"type": "string", "format": "duration"}, ["P3Y6M4DT12H30M5S", "P2W", "PT36H", "P1D", "PT0S"],
        ['"P"', '"P1DT"', '"1D"', '"PT1234567890S"'],
    ),
    "zod's record of an enum": (
        {"type": "object", "propertyNames": {"type": "string", "enum": ["x", "y"]}, "additionalProperties": FLAG,
         "required": ["x", "y"]},
        [{"x": True, "y": False}], ['{"x": true}', "{}", '{"x": true, "y": true, "z": true}'],
    ),
    "a bound of unsigned integers": ({"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, [0, 10**15], ["-1"]),
    "a pattern beside lengths": (
        {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 200}, ["ab", "a" * 200],
        ['"a"', '"' + "a" * 201 + '"', '"A1"'],
    ),
    "many repetitions": (
        {"type": "string", "pattern": "^[a-z]{1,255}$"}, ["a", "a" * 128, "a" * 129, "a" * 255],
        ['""', '"' + "a" * 256 + '"'],
    ),
    "many repetitions and more": (
        {"type": "string", "pattern": "^[a-z]{200,}$"}, ["a" * 200, "a" * 700], ['"' + "a" * 199 + '"'],
    ),
    "a pattern without a type": ({"pattern": "^a$"}, ["a"], ['"b"', "1"]),
    "bounds without a type": ({"minimum": 1, "maximum": 2}, [1, 1.5], ["0", "3", '"a"']),
    "a reference to itself": (
        {"$ref": "#/$defs/N",
         "$defs": {"N": obj({"next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}}, "next")}},
        [{"next": None}, {"next": {"next": None}}], ['{"next": 1}'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_schema_allows_the_values_that_fit_it_and_no_others(name: str):
    schema, values, others = CASES[name]
    constraint = GRAMMARS.constraint(schema, None)
    for value in values:
        assert accepts(constraint, json.dumps(value, ensure_ascii=False)), value
    for text in others:
        assert not accepts(constraint, text), text


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#/$defs/a0"}], "$defs": {
            **{f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(25)}, "a25": FLAG}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        {"allOf": [{"$ref": "#"}, FLAG]},
        {"allOf": [TEXT, FLAG]},
    ],
    ids=["doubling", "circle", "itself", "nothing fits"],
)  # fmt: skip
def test_a_schema_that_can_not_be_merged_is_the_clients_mistake(schema: dict[str, Any]):
    with pytest.raises(BadRequest, match="invalid JSON schema: #"):
        GRAMMARS.constraint(schema, None)
