"""Whatever a client sends as a schema, it becomes one without what xgrammar can't merge, or is refused by its place."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.engine.vllm.json_schema import enforceable
from service.errors import BadRequest

KINDS = ["string", "integer", "number", "boolean", "null", "object", "array"]
REFERENCES = ["#", "#/$defs/A", "#/$defs/B", "#b", "#/properties/a", "#/anyOf/0", "#/nowhere"]
PATTERNS = ["^a$", "[a-z]+", r"^\\$", '^[^"]+$', "(x?)+", "(?=a)b", "(", r"\p{L}"]
numbers = st.sampled_from([0, 1, 2.0, -1, 0.5, 1e-9, 1e300, 10**9, True])
values = st.sampled_from([None, 1, 1.0, "a", [1], {"a": 1}])
leaves: st.SearchStrategy[Any] = st.booleans() | st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(KINDS), "enum": st.lists(values, max_size=2), "const": values}
)


def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    branches, by_name = st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    optional: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), branches),
        **dict.fromkeys(("items", "additionalProperties", "propertyNames", "not", "if"), inner),
        **dict.fromkeys(("minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum", "minItems"), numbers),
        "properties": by_name,
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=1),
        "required": st.lists(st.sampled_from("abd"), max_size=2),
        "type": st.sampled_from(KINDS) | st.lists(st.sampled_from(KINDS), min_size=1, max_size=2),
        "pattern": st.sampled_from(PATTERNS),
        "format": st.sampled_from(["date-time", "email", "of-next-year"]),
        "$ref": st.sampled_from(REFERENCES),
    }
    return st.fixed_dictionaries({}, optional=optional)


schemas = st.recursive(leaves, around, max_leaves=8)


@given(around(schemas), schemas, schemas)
def test_any_schema_is_enforceable_or_refused(schema: dict[str, Any], first: Any, second: Any):
    anchored = {"$anchor": "b", **second} if isinstance(second, dict) else second
    with contextlib.suppress(BadRequest):
        converted = enforceable({**schema, "$defs": {"A": first, "B": anchored}})
        assert '"allOf"' not in json.dumps(converted)
        assert '"oneOf"' not in json.dumps(converted)
