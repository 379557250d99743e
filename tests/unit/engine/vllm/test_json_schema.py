from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from service.engine.vllm import schema_reports
from service.engine.vllm.json_schema import enforceable
from service.engine.vllm.schema_bounds import (
    MAX_DEPTH,
    MAX_ENUM_CHARACTERS,
    MAX_ENUM_VALUES,
    MAX_OPTIONAL_PROPERTIES,
    MAX_PROPERTIES,
)
from service.engine.vllm.schema_keywords import MAX_NUMBER
from service.errors import BadRequest

STRING: dict[str, Any] = {"type": "string"}


def obj(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = STRING
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.fixture(autouse=True)
def nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_reports, "_reported", set())


@pytest.mark.parametrize(
    "schema",
    [
        {},
        STRING,
        {"type": "object"},
        obj({"a": {"type": "integer"}, "b": {"type": ["string", "null"]}}, additionalProperties=False),
        {"$defs": {"A": obj({"a": STRING})}, "type": "array", "items": {"$ref": "#/$defs/A"}},
        {"anyOf": [STRING, {"type": "null"}], "default": None, "title": "T"},
        obj({"format": STRING, "not": STRING, "uniqueItems": STRING}),
        {"enum": [{"format": "x", "uniqueItems": True}]},
        {"const": {"oneOf": []}},
        {"type": "string", "enum": [1, 2]},
        {"type": "array", "items": STRING, "maxItems": 3},
        {"type": "array", "prefixItems": [STRING], "minItems": 1},
        {"type": "object", "properties": {"a": STRING}, "minProperties": 1},
        {"type": "object", "additionalProperties": STRING, "minProperties": 1},
    ],
)
def test_what_can_be_enforced_stays(schema: dict[str, Any]):
    before = json.dumps(schema)
    assert enforceable(schema) == schema
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array", "uniqueItems": True}, {"type": "array"}),
        ({"type": "string", "format": "password"}, STRING),
        ({"type": "string", "format": "uri", "maxLength": 9}, {"type": "string", "format": "uri"}),
        ({"type": "integer", "multipleOf": 5}, {"type": "integer"}),
        ({"type": "string", "maxLength": 10**6}, STRING),
        (obj({"a": {"not": STRING}}), obj({"a": {}})),
        ({"items": [STRING, {}]}, {"prefixItems": [STRING, {}], "items": True}),
        ({"items": [STRING], "additionalItems": False}, {"prefixItems": [STRING], "items": False}),
        ({"oneOf": [STRING, {}]}, {"anyOf": [STRING, {}]}),
        ({"allOf": [STRING]}, STRING),
        ({"allOf": [STRING, {"enum": ["a"]}]}, {"type": "string", "enum": ["a"]}),
        (
            {"allOf": [obj({"a": STRING}), {"$ref": "#/$defs/B"}], "$defs": {"B": obj({"b": {}})}},
            {**obj({"b": {}, "a": STRING}, required=["a", "b"]), "$defs": {"B": obj({"b": {}})}},
        ),
        ({"type": "integer", "minimum": 3}, {"type": "integer", "minimum": 3, "maximum": MAX_NUMBER}),
        ({"type": "number", "exclusiveMaximum": 3}, {"type": "number", "exclusiveMaximum": 3, "minimum": -MAX_NUMBER}),
        (
            {"minimum": 1, "exclusiveMinimum": True, "maximum": 3},
            {"exclusiveMinimum": 1, "maximum": 3, "type": "number"},
        ),
        ({"minimum": 1, "maximum": 3, "exclusiveMaximum": False}, {"minimum": 1, "maximum": 3, "type": "number"}),
        ({"type": "string", "minLength": 1.0, "pattern": None, "format": None}, {"type": "string", "minLength": 1}),
        ({"const": None, "default": None, "title": None}, {"const": None, "default": None}),
        ({"pattern": "a", "minLength": 0}, {"type": "string", "pattern": "a"}),
        ({"format": "date-time", "pattern": "Z$"}, {"type": "string", "pattern": "Z$"}),
        ({"format": "int32"}, {}),
        ({"format": "iri"}, {"type": "string", "format": "uri"}),
        (
            {"minimum": 1, "maximum": 2, "maxLength": 3},
            {
                "type": ["string", "number"],
                "minimum": 1,
                "maximum": 2,
                "maxLength": 3,
            },
        ),
        ({"type": "string", "pattern": r"^[\]a]+$", "maxLength": 9}, {"type": "string", "pattern": r"^[\]a]{1,9}$"}),
        ({"type": "string", "pattern": "[a-z]*", "minLength": 2}, {"type": "string", "pattern": "^[a-z]{2,}$"}),
        ({"type": "string", "pattern": r"\w{2,5}", "maxLength": 9}, {"type": "string", "pattern": r"^\w{2,5}$"}),
        ({"type": "string", "pattern": "^ab+$", "maxLength": 9}, {"type": "string", "pattern": "^ab+$"}),
        (
            {"type": ["integer", "null"], "minimum": -(2**64), "maximum": 2**64},
            {"type": ["integer", "null"], "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER},
        ),
        (
            {
                "type": "object",
                "propertyNames": {"enum": ["a", "b"]},
                "additionalProperties": STRING,
                "required": ["a"],
            },
            obj({"a": STRING, "b": STRING}, required=["a"], additionalProperties=False),
        ),
        ({"type": "array", "maxItems": 3}, {"type": "array", "maxItems": 3, "items": True}),
        ({"type": ["array", "null"], "minItems": 3}, {"type": ["array", "null"], "minItems": 3, "items": True}),
        (
            {"type": "array", "prefixItems": [STRING], "minItems": 2},
            {"type": "array", "prefixItems": [STRING], "minItems": 2, "items": True},
        ),
        (
            {"type": "array", "prefixItems": [STRING, {}], "maxItems": 1},
            {"type": "array", "prefixItems": [STRING], "maxItems": 1},
        ),
        ({"type": "object", "maxProperties": 3}, {"type": "object", "maxProperties": 3, "additionalProperties": True}),
        (
            {"type": "object", "properties": {"a": STRING}, "minProperties": 2},
            {"type": "object", "properties": {"a": STRING}, "minProperties": 2, "additionalProperties": True},
        ),
        ({"type": "string", "enum": ["a", 5, None]}, {"type": "string", "enum": ["a"]}),
        ({"type": ["integer", "null"], "enum": [1, 1.5, None]}, {"type": ["integer", "null"], "enum": [1, None]}),
    ],
)
def test_what_can_not_be_enforced_is_left_out_or_written_in_another_way(
    schema: dict[str, Any], expected: dict[str, Any]
):
    assert enforceable(schema) == expected


def test_a_keyword_that_is_not_enforced_is_logged_once(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            enforceable({"items": {"uniqueItems": True, "format": "password"}})
    assert sorted(record.message for record in caplog.records) == [
        "structured output: not enforced: 'format password'",
        "structured output: not enforced: 'uniqueItems'",
    ]


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"title": "x" * 70_000}, r"#: has \d+ bytes, and may have 65536"),
        (nested(MAX_DEPTH + 1), f"is nested more than {MAX_DEPTH} deep"),
        (obj({f"p{number}": {} for number in range(MAX_PROPERTIES + 1)}), "#/properties: the schema has more than"),
        (
            {"properties": {f"p{number}": {} for number in range(MAX_OPTIONAL_PROPERTIES + 1)}},
            "#/properties: has more than 300 optional",
        ),
        (obj({"a": {"enum": list(range(MAX_ENUM_VALUES + 1))}}), "#/properties/a/enum: the schema has more than 1000"),
        ({"enum": ["x" * (MAX_ENUM_CHARACTERS + 1)]}, "#/enum: the schema's enum values have more than"),
        ({"items": {"pattern": "a" * 1001}}, "#/items/pattern: has 1001 characters"),
        ({"pattern": "(a{1,100}){1,100}"}, "#/pattern: has repetitions of 10000 in all"),
        ({"pattern": "a{1,257}"}, "#/pattern: repeats something 257 times"),
        ({"pattern": "a{1,250}b{1,251}"}, "#/pattern: has repetitions of 501 in all"),
        ({"pattern": "((a{5}b{6}){10}){5}"}, "#/pattern: has repetitions of 550 in all"),
        ({"pattern": "a{99999999999999}"}, "#/pattern: repeats something"),
        ({"$ref": "https://example.com/schema"}, r"#/\$ref: only references inside the schema"),
        ({"$ref": "#/$defs/A"}, r"#/\$ref: there is nothing at #/\$defs/A"),
        ({"anyOf": [{}, {"$ref": f"#/anyOf/{'1' * 5000}"}]}, r"#/anyOf/1/\$ref: there is nothing at #/anyOf/11"),
        ({"$ref": "#"}, r"#/\$ref: # refers to itself"),
        ({"items": {"minLength": -1}}, "#/items/minLength: must be a whole number, 0 or more"),
        ({"items": {"maxItems": "2"}}, "#/items/maxItems: must be a whole number, 0 or more"),
        ({"maxLength": 2.5}, "#/maxLength: must be a whole number, 0 or more"),
        ({"anyOf": []}, "#: anyOf and oneOf must hold a schema"),
        (obj({"a": {"oneOf": []}}), "#/properties/a: anyOf and oneOf must hold a schema"),
        ({"minProperties": True}, "#/minProperties: must be a whole number, 0 or more"),
        (obj({"a": {"pattern": 5}}), "#/properties/a/pattern: must be a string"),
        (obj({"a": {"format": ["date"]}}), "#/properties/a/format: must be a string"),
        (
            {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"},
            "refers to itself",
        ),
    ],
)
def test_what_is_too_large_or_refers_to_nothing_is_refused_with_its_place(schema: dict[str, Any], complaint: str):
    with pytest.raises(BadRequest, match=f"^invalid JSON schema: .*{complaint}"):
        enforceable(schema)


def test_a_schema_may_refer_to_itself_further_down():
    tree = {"$defs": {"N": obj({"next": {"$ref": "#/$defs/N"}})}, "$ref": "#/$defs/N"}
    assert enforceable(tree) == tree


def test_a_schema_of_any_depth_is_refused_and_nothing_worse():
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(BadRequest, match="nested more than"):
        enforceable(schema)
    while schema:
        # Python would take the nested dictionaries down recursively.
        schema = schema.pop("items", {})
