"""Messages of the queue that can't be encoded or decoded, and their frames."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# The ids of two requests: one with hostile messages, and one beside it that must get its answer.
HOSTILE, VICTIM = 1, 2
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]).filter(lambda each: not 0xD800 <= ord(each) < 0xE000), max_size=5)
    | st.binary(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text("ab", max_size=2), children, max_size=3),
    max_leaves=12,
)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# What a field can hold in a process, and no message can.
UNFIT: list[Any] = [2**64, -(2**63) - 1, 10**40, "\ud800", {"a": ["\udfff"]}, nested(5_000), object()]


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload
