from __future__ import annotations

from typing import Any

import pytest

from service.engine.vllm.schema_faults import MOST_TRIES, place_of_fault


def complaint(schema: Any) -> str | None:
    """Refuse any schema that holds the word "bad" outside of its definitions, and any whose definition A is bad."""
    if not isinstance(schema, dict):
        return None
    outside = {key: value for key, value in schema.items() if key != "$defs"}
    used = schema.get("$defs", {}).get("A") if "'#/$defs/A'" in str(outside) else None
    return "bad" if "'bad'" in f"{outside}{used}" else None


BAD = {"type": "bad"}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (BAD, "#"),
        ({"properties": {"a": {}, "b": BAD}}, "#/properties/b"),
        ({"items": {"anyOf": [{}, {"additionalProperties": BAD}]}}, "#/items/anyOf/1/additionalProperties"),
        ({"items": [{}, BAD]}, "#/items/1"),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"items": BAD}}}, "#/$defs/A/items"),
        ({"enum": ["bad"], "properties": {"a": {}}}, "#"),
    ],
)
def test_the_smallest_part_with_the_complaint_of_the_whole_is_found(schema: dict[str, Any], place: str):
    assert place_of_fault(schema, complaint) == place


def test_the_search_ends_where_a_client_has_written_very_many_parts():
    tries: list[Any] = []

    def counted(schema: Any) -> str | None:
        tries.append(schema)
        return complaint(schema)

    schema: dict[str, Any] = {
        "properties": {"a": {"properties": {f"p{number}": {} for number in range(5000)} | {"z": BAD}}}
    }
    assert place_of_fault(schema, counted) == "#/properties/a"
    assert len(tries) == MOST_TRIES + 1
