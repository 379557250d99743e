"""Schemas as pydantic, zod, instructor and people write them, each with values that fit."""

from __future__ import annotations

from typing import Any


def _object(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required, **more}


def _list(items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _optional(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}], **more}


def _string(**more: Any) -> dict[str, Any]:
    return _object({"s": {"type": "string", **more}})


TEXT: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
FLAG: dict[str, Any] = {"type": "boolean"}
ZOD = {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False}
POINT = _object({"x": INTEGER}, title="Point")
CAT = _object({"kind": {"const": "cat", "type": "string"}, "lives": INTEGER}, title="Cat")
DOG = _object({"kind": {"const": "dog", "type": "string"}, "weight": NUMBER}, title="Dog")
PERSON = _object({"name": {"title": "Name", "type": "string"}, "age": {"title": "Age", "type": "integer"}}, title="P")

SCHEMAS: dict[str, tuple[Any, ...]] = {
    "string": (_object({"name": TEXT}), {"name": "Anna"}, {"name": ""}, {"name": 'é "中" \\ \n 🙂'}),
    "integer": (_object({"n": INTEGER}), {"n": 0}, {"n": -12}),
    "number": (_object({"n": NUMBER}), {"n": 1.5}, {"n": -2}, {"n": 1e-7}),
    "boolean": (_object({"a": FLAG}), {"a": True}, {"a": False}),
    "null": (_object({"a": {"type": "null"}}), {"a": None}),
    "enum": (_object({"c": {"enum": ["red", "green"]}}), {"c": "green"}),
    "enum of a type": (_object({"c": {"type": "string", "enum": ["a"]}}), {"c": "a"}),
    "enum of mixed types": (_object({"c": {"enum": [1, "a", None, True, 1.5]}}), {"c": None}, {"c": 1.5}),
    "enum in Unicode": (_object({"c": {"enum": ["é", "中文", "🙂"]}}), {"c": "中文"}),
    "const": (_object({"k": {"const": "x"}}), {"k": "x"}),
    "optional": (_object({"name": _optional(TEXT), "age": _optional(INTEGER)}), {"name": None, "age": 3}),
    "optional with a default": (
        _object({"name": TEXT, "nick": _optional(TEXT, default=None)}, ["name"]),
        {"name": "a"},
        {"name": "a", "nick": None},
    ),
    "a list of types": (_object({"v": {"type": ["string", "integer", "null"]}}), {"v": "a"}, {"v": 1}, {"v": None}),
    "list": (_object({"tags": _list(TEXT)}), {"tags": []}, {"tags": ["a", "b"]}),
    "list with bounds": (_object({"tags": _list(TEXT, minItems=1, maxItems=2)}), {"tags": ["a"]}),
    "list of integers": (_object({"n": _list(INTEGER)}), {"n": [1, 2, 3]}),
    "list of enums": (_object({"n": _list({"enum": ["a", "b"]})}), {"n": ["b", "b"]}),
    "list of lists": (_object({"n": _list(_list(NUMBER))}), {"n": [[1], [], [2, 3]]}),
    "set": (_object({"tags": _list(TEXT, uniqueItems=True)}), {"tags": ["a", "b"]}),
    "contains": (_object({"n": _list(INTEGER, contains={"const": 1})}), {"n": [1]}),
    "tuple": (
        _object({"p": {"type": "array", "prefixItems": [INTEGER, TEXT], "minItems": 2, "maxItems": 2}}),
        {"p": [1, "a"]},
    ),
    "tuple of draft 7": (
        _object({"p": {"type": "array", "items": [INTEGER, TEXT], "additionalItems": False}}),
        {"p": [1, "a"]},
    ),
    "nested": (
        _object({"user": _object({"name": TEXT, "address": _object({"city": TEXT})})}),
        {"user": {"name": "a", "address": {"city": "b"}}},
    ),
    "definitions": (
        {"$defs": {"Point": POINT}, **_object({"a": {"$ref": "#/$defs/Point"}, "b": {"$ref": "#/$defs/Point"}})},
        {"a": {"x": 1}, "b": {"x": 2}},
    ),
    "definitions of draft 7": (
        {"definitions": {"Point": POINT}, **_object({"a": {"$ref": "#/definitions/Point"}})},
        {"a": {"x": 1}},
    ),
    "a reference with a default": (
        {"$defs": {"Point": POINT}, **_object({"a": {"allOf": [{"$ref": "#/$defs/Point"}], "default": None}})},
        {"a": {"x": 1}},
    ),
    "list of objects": (
        {"$defs": {"P": PERSON}, **_object({"people": _list({"$ref": "#/$defs/P"})})},
        {"people": [{"name": "a", "age": 1}, {"name": "b", "age": 2}]},
    ),
    "linked list": (
        {"$defs": {"N": _object({"v": INTEGER, "next": _optional({"$ref": "#/$defs/N"})})}, "$ref": "#/$defs/N"},
        {"v": 1, "next": {"v": 2, "next": None}},
    ),
    "tree": (
        {"$defs": {"N": _object({"v": INTEGER, "children": _list({"$ref": "#/$defs/N"})})}, "$ref": "#/$defs/N"},
        {"v": 1, "children": [{"v": 2, "children": []}]},
    ),
    "union": (_object({"v": {"anyOf": [INTEGER, TEXT]}}), {"v": 1}, {"v": "a"}),
    "union of objects": (_object({"v": {"anyOf": [POINT, PERSON]}}), {"v": {"x": 1}}, {"v": {"name": "a", "age": 1}}),
    "discriminated union": (
        {
            "$defs": {"Cat": CAT, "Dog": DOG},
            **_object(
                {
                    "pet": {
                        "discriminator": {
                            "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                            "propertyName": "kind",
                        },
                        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                    }
                }
            ),
        },
        {"pet": {"kind": "cat", "lives": 9}},
        {"pet": {"kind": "dog", "weight": 9.5}},
    ),
    "merged objects": ({"allOf": [_object({"a": INTEGER}), _object({"b": TEXT})]}, {"a": 1, "b": "x"}),
    "integer range": (_object({"n": {"type": "integer", "minimum": 0, "maximum": 120}}), {"n": 0}, {"n": 120}),
    "exclusive range": (_object({"n": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}}), {"n": 5}),
    "number range": (_object({"n": {"type": "number", "minimum": 0, "maximum": 1}}), {"n": 0.25}, {"n": 1}),
    "minimum": (_object({"n": {"type": "integer", "minimum": 0}}), {"n": 77}),
    "positive": (_object({"n": {"type": "number", "exclusiveMinimum": 0}}), {"n": 0.5}),
    "multiple": (_object({"n": {"type": "integer", "multipleOf": 5}}), {"n": 10}),
    "length": (_string(minLength=2, maxLength=5), {"s": "ab"}, {"s": "abcde"}),
    "pattern": (_string(pattern="^[A-Z]{3}$"), {"s": "ABC"}),
    "pattern with a length": (_string(pattern="^[a-z]+$", maxLength=4), {"s": "abc"}),
    "email": (_string(format="email"), {"s": "a@example.com"}),
    "date": (_string(format="date"), {"s": "2026-11-26"}),
    "time": (_string(format="time"), {"s": "07:05:12Z"}),
    "date and time": (_string(format="date-time"), {"s": "2026-11-26T07:05:12Z"}),
    "duration": (_string(format="duration"), {"s": "P1DT2H"}),
    "UUID": (_string(format="uuid"), {"s": "123e4567-e89b-12d3-a456-426614174000"}),
    "URL": (_string(format="uri", minLength=1, maxLength=2083), {"s": "https://example.com/a"}),
    "IPv4": (_string(format="ipv4"), {"s": "127.0.0.1"}),
    "SecretStr": (_string(format="password", writeOnly=True), {"s": "secret"}),
    "bytes": (_string(format="binary"), {"s": "abc"}),
    "an unknown format": (_string(format="iso-country"), {"s": "FR"}),
    "Decimal": (
        _object({"p": {"anyOf": [NUMBER, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]}}),
        {"p": 1.5},
    ),
    "zod object": ({**ZOD, **_object({"title": TEXT, "tags": _list(TEXT), "done": FLAG})}, {
        "title": "a", "tags": ["b"], "done": True,
    }),
    "zod nullable": ({**ZOD, **_object({"a": {"type": ["string", "null"]}})}, {"a": None}, {"a": "x"}),
    "zod record": (_object({"m": {"type": "object", "additionalProperties": NUMBER}}), {"m": {"a": 1, "b": 2.5}}),
    "zod integer": (
        _object({"n": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}}),
        {"n": 9007199254740991},
    ),
    "zod any": (_object({"x": {}}), {"x": [1, {"a": None}]}),
    "dictionary": (_object({"m": {"type": "object", "additionalProperties": TEXT}}), {"m": {}}, {"m": {"a": "b"}}),
    "free object": ({"type": "object"}, {}, {"a": [1, {"b": None}]}),
    "free field": (_object({"m": {"type": "object"}}), {"m": {"a": 1}}),
    "additional properties": (_object({"a": INTEGER}, additionalProperties=True), {"a": 1, "b": "x"}),
    "unevaluated properties": (_object({"a": INTEGER}, unevaluatedProperties=False), {"a": 1}),
    "property count": (
        {"type": "object", "additionalProperties": INTEGER, "minProperties": 1, "maxProperties": 2},
        {"a": 1},
    ),
    "property pattern": ({"type": "object", "patternProperties": {"^x_[a-z]+$": TEXT}}, {"x_a": "b"}),
    "properties and a pattern": (_object({"a": INTEGER}, patternProperties={"^x_": TEXT}), {"a": 1}),
    "property names": (
        {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": INTEGER},
        {"abc": 1},
    ),
    "no properties": ({"type": "object", "properties": {}}, {}),
    "no type": ({"properties": {"a": TEXT}, "required": ["a"]}, {"a": "x"}),
    "true": (_object({"a": True}), {"a": [1]}),
    "conditions": (
        _object({"a": FLAG}, **{"if": {"properties": {"a": {"const": True}}}, "then": {"required": ["a"]}}),
        {"a": True},
    ),
    "dependencies": (_object({"a": INTEGER, "b": INTEGER}, [], dependentRequired={"a": ["b"]}), {"a": 1, "b": 2}),
    "not": (_object({"a": {"not": {"type": "string"}}}), {"a": 1}),
    "annotations": (
        _object({"a": {"type": "integer", "$comment": "x", "deprecated": True, "readOnly": True, "examples": [1]}}),
        {"a": 1},
    ),
    "empty": ({}, {"a": 1}, [1], "x", 1, None),
    "root string": (TEXT, "x"),
    "root integer": (INTEGER, 7),
    "root boolean": (FLAG, True),
    "root enum": ({"enum": ["yes", "no"]}, "no"),
    "root list": (_list(TEXT), ["a"]),
    "root list of objects": (_list(POINT, minItems=1, maxItems=2), [{"x": 1}]),
    "instructor": (
        {"title": "UserDetail", "description": "Correctly extracted `UserDetail`", **PERSON},
        {"name": "Jason", "age": 25},
    ),
    "instructor's Maybe": (
        {
            "$defs": {"P": PERSON},
            **_object(
                {
                    "result": _optional({"$ref": "#/$defs/P"}, default=None),
                    "error": {"type": "boolean", "default": False},
                    "message": _optional(TEXT, default=None),
                },
                [],
            ),
        },
        {},
        {"result": {"name": "a", "age": 1}, "error": False, "message": None},
    ),
    "instructor's Iterable": (
        {
            "$defs": {"Q": _object({"id": INTEGER, "question": TEXT, "dependencies": _list(INTEGER)})},
            **_object({"tasks": _list({"$ref": "#/$defs/Q"})}),
        },
        {"tasks": [{"id": 1, "question": "a", "dependencies": []}, {"id": 2, "question": "b", "dependencies": [1]}]},
    ),
    "steps": (
        _object(
            {"steps": _list(_object({"explanation": TEXT, "output": TEXT})), "final_answer": TEXT},
            additionalProperties=False,
        ),
        {"steps": [{"explanation": "a", "output": "b"}], "final_answer": "c"},
    ),
    "classification": (
        _object({"label": {"enum": ["positive", "negative"]}, "sure": {"type": "number", "minimum": 0, "maximum": 1}}),
        {"label": "positive", "sure": 0.5},
    ),
    "deep": (
        _object({"a": _object({"b": _object({"c": _object({"d": INTEGER})})})}),
        {"a": {"b": {"c": {"d": 1}}}},
    ),
    "wide": (_object(dict.fromkeys(map(str, range(12)), TEXT)), dict.fromkeys(map(str, range(12)), "x")),
}  # fmt: skip
