"""Strategies for any JSON at all where a request should be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def values(names: st.SearchStrategy[str], kinds: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Any JSON, in which objects have some of `names`, and `kinds` are among the strings."""
    return st.recursive(
        scalars | kinds,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=9,
    )
