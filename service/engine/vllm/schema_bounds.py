"""The bounds of a client's JSON schema and patterns.

A bound that is exceeded is the client's mistake: compiling takes time that grows faster than the schema, and it can't
be stopped.
"""

from __future__ import annotations

import re
from typing import Any

from .json_patterns import PatternError, in_json
from .schema_reports import fail, report

# Measured on one core with a vocabulary of 1,280 tokens: a schema at one of these bounds compiles in 0.2 to 2 s.
MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_PROPERTIES = 1_000
MAX_OPTIONAL_PROPERTIES = 300
MAX_ENUM_VALUES = 1_000
# OpenAI's bound for an enum of more than 250 values.
MAX_ENUM_CHARACTERS = 15_000
MAX_PATTERN_CHARACTERS = 1_000
# More repetitions than these take long to compile. Of the second one nested repetitions are multiplied, and those side
# by side are added.
MAX_REPETITION = 256
MAX_REPETITIONS = 500

# An escape, a class, a repetition with its bounds, or any other character.
_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)


class SchemaCounts:
    """What has been counted in one schema so far."""

    def __init__(self) -> None:
        self._properties = 0
        self._enum_values = 0
        self._enum_characters = 0

    def check(self, schema: dict[str, Any], place: str) -> None:
        """Count what a part of the schema has. Raise BadRequest when it is too much."""
        if isinstance(properties := schema.get("properties"), dict):
            self._count_properties(properties, schema.get("required"), f"{place}/properties")
        if isinstance(values := schema.get("enum"), list):
            self._count_values(values, f"{place}/enum")
        if isinstance(pattern := schema.get("pattern"), str):
            _check_rule(pattern, f"{place}/pattern")
        if isinstance(patterns := schema.get("patternProperties"), dict):
            for pattern in patterns:
                _check_rule(pattern, f"{place}/patternProperties")

    def _count_properties(self, properties: dict[str, Any], required: Any, place: str) -> None:
        self._properties += len(properties)
        optional = len(properties) - (len(required) if isinstance(required, list) else 0)
        if self._properties > MAX_PROPERTIES:
            fail(place, f"the schema has more than {MAX_PROPERTIES} properties")
        if optional > MAX_OPTIONAL_PROPERTIES:
            fail(place, f"has more than {MAX_OPTIONAL_PROPERTIES} optional properties")

    def _count_values(self, values: list[Any], place: str) -> None:
        self._enum_values += len(values)
        self._enum_characters += sum(len(value) for value in values if isinstance(value, str))
        if self._enum_values > MAX_ENUM_VALUES:
            fail(place, f"the schema has more than {MAX_ENUM_VALUES} enum values")
        if self._enum_characters > MAX_ENUM_CHARACTERS:
            fail(place, f"the schema's enum values have more than {MAX_ENUM_CHARACTERS} characters")


def check_pattern(pattern: str, place: str, most_times: int = MAX_REPETITION) -> None:
    """Raise BadRequest for a pattern that is too long, or that repeats too much, or one thing over `most_times`."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        fail(place, f"has {len(pattern)} characters, and may have {MAX_PATTERN_CHARACTERS}")
    # Of each group that is open, and of what a repetition would repeat.
    groups, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        if token[1] is not None:
            times = max(1, int((token[2] or token[1])[:9]))
            if times > most_times:
                fail(place, f"repeats something {times} times, and may repeat it {most_times} times")
            groups[-1] += max(1, last) * times - last
            last = max(1, last) * times
        elif token[0] == "(":
            groups.append(0)
        elif token[0] == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        else:
            last = 0
    if sum(groups) > MAX_REPETITIONS:
        fail(place, f"has repetitions of {sum(groups)} in all, and may have {MAX_REPETITIONS}")


def _check_rule(pattern: str, place: str) -> None:
    check_pattern(pattern, place)
    try:
        _, is_enforced = in_json(pattern)
    except PatternError as error:
        fail(place, f"can't be compiled: {error}")
    if not is_enforced:
        report("a lookaround in a pattern")
