"""Merges what must hold of the same value: the keywords of a JSON schema, its `allOf`, its `$ref`, and its `anyOf`.

xgrammar enforces one of these at a time, so that the others would be lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .schema_intersection import MAX_BRANCHES, both, intersection
from .schema_keywords import UNENFORCED, normalized
from .schema_references import References
from .schema_reports import fail, report

# Of one schema: branches of `allOf` and `anyOf`, and schemas that a `$ref` beside other keywords refers to.
MAX_MERGED = 1_000
MAX_DEPTH = 32
# The keywords beside an `anyOf`, times its branches.
MAX_REPEATED_BYTES = 32_768

# Any other keyword is a note beside these. They are all that xgrammar enforces of one value.
_ENFORCED = {
    "type", "enum", "const", "properties", "patternProperties", "additionalProperties", "unevaluatedProperties",
    "propertyNames", "required", "minProperties", "maxProperties", "items", "prefixItems", "unevaluatedItems",
    "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "anyOf",
}  # fmt: skip

# The references that were followed on the way to a schema from the root.
Path = frozenset[str]


class ImpossibleError(Exception):
    """No value fits the schema."""


@dataclass(frozen=True)
class _SchemaPart:
    """Keywords that hold beside others, or a `$ref` alone. Below are the references followed for the same value."""

    keywords: dict[str, Any]
    place: str
    below: Path = frozenset()


class Merging:
    """The merging of one schema, and how much of it has been merged so far."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._merged = 0

    def as_one(self, schema: dict[str, Any], place: str, path: Path) -> tuple[dict[str, Any], Path]:
        """Return a schema without `allOf`, and without a `$ref` that has something beside it.

        With it comes the path from here on. A reference in the path is not followed again: it stays, and what is
        beside it is not enforced. Raises ImpossibleError and BadRequest.
        """
        parts = self._parts(schema, _SchemaPart({}, place), 0)
        notes = {key: value for key, value in normalized(schema, place).items() if key not in _ENFORCED}
        notes = {key: value for key, value in notes.items() if key not in ("allOf", "$ref")}
        followed: set[str] = set()
        if len(parts) > 1:
            parts = [each for part in parts for each in self._followed(part, path, followed, 0)]
        again = [part.keywords for part in parts if "$ref" in part.keywords]
        if again and len(parts) > 1:
            report("keywords beside a $ref that is followed already")
            return {**notes, **again[0]}, path
        return {**notes, **_intersection(parts)}, path | followed

    def spread(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema with the keywords beside its `anyOf` in each of the branches instead."""
        branches = schema.get("anyOf")
        beside = {key: value for key, value in schema.items() if key in _ENFORCED and key != "anyOf"}
        if not isinstance(branches, list) or not beside:
            return schema
        notes = {key: value for key, value in schema.items() if key not in _ENFORCED}
        if len(branches) > MAX_BRANCHES or len(json.dumps(beside)) * len(branches) > MAX_REPEATED_BYTES:
            report("anyOf or oneOf with many branches beside other keywords")
            return {**notes, **beside}
        return {**notes, "anyOf": [both(beside, branch) for branch in branches]}

    def _parts(self, schema: Any, at: _SchemaPart, depth: int) -> list[_SchemaPart]:
        """Return the parts of a schema, references as they are."""
        if isinstance(schema, bool):
            if not schema:
                raise ImpossibleError
            return []
        if not isinstance(schema, dict):
            fail(at.place, "must be an object or a boolean")
        if depth > MAX_DEPTH:
            fail(at.place, f"is nested more than {MAX_DEPTH} deep")
        schema = normalized(schema, at.place)
        parts = [_SchemaPart({"$ref": schema["$ref"]}, at.place, at.below)] if "$ref" in schema else []
        branches = schema.get("allOf")
        for number, branch in enumerate(branches if isinstance(branches, list) else []):
            below = _SchemaPart({}, f"{at.place}/allOf/{number}", at.below)
            parts += self._parts(branch, below, depth + 1)
            for key in UNENFORCED & branch.keys() if isinstance(branch, dict) else ():
                report(key)
        keywords = {key: value for key, value in schema.items() if key in _ENFORCED}
        self._count(at.place)
        return [*parts, _SchemaPart(keywords, at.place, at.below)] if keywords else parts

    def _followed(self, part: _SchemaPart, path: Path, followed: set[str], depth: int) -> list[_SchemaPart]:
        """Return a part, or in place of a `$ref` the parts of what it refers to."""
        reference = part.keywords.get("$ref")
        if reference is None:
            return [part]
        place = f"{part.place}/$ref"
        target = self._references.target(reference, place)
        if reference in part.below:
            fail(place, f"{reference[:200]} refers to itself")
        if reference in path:
            return [part]
        if depth > MAX_DEPTH:
            fail(place, f"leads to more than {MAX_DEPTH} other references")
        followed.add(reference)
        parts = self._parts(target, _SchemaPart({}, reference, part.below | {reference}), 0)
        return [each for one in parts for each in self._followed(one, path, followed, depth + 1)]

    def _count(self, place: str) -> None:
        self._merged += 1
        if self._merged > MAX_MERGED:
            fail(place, f"the schema has more than {MAX_MERGED} parts that are merged")


def _intersection(parts: list[_SchemaPart]) -> dict[str, Any]:
    merged = dict(parts[0].keywords) if parts else {}
    for part in parts[1:]:
        together = intersection(merged, part.keywords)
        if together is None:
            raise ImpossibleError
        merged = together
    return merged
