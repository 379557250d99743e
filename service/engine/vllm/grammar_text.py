"""Mends the text of a grammar that xgrammar has made of a JSON schema: patterns, lengths of texts, and long numbers.

xgrammar gets a mark in place of each pattern of the schema. The rule of a mark becomes our own rule of the pattern.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .json_patterns import in_json

# Before the point, behind it, and in the exponent; as in llama.cpp's grammars, which Ollama uses.
DIGITS = 16
# Keywords whose values are schemas by name, lists of schemas, and schemas.
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames")
_MARKED = re.compile(r'^(\S+ ::= )Regex\("(pattern[0-9]+)", json_string=true\)$')
# xgrammar's character of a text with a length. It leaves out all that JSON escapes.
_CHARACTER = r"[^\"\\\r\n]"
_PAIR = r'"u" [dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}'
_CODE = r'"u" ([0-9abcefABCEF] [0-9a-fA-F] | [dD] [0-7]) [0-9a-fA-F]{2}'
# Two escapes that are a pair in UTF-16 are one character.
_ANY_CHARACTER = rf'([^\0-\x1f\"\\] | "\\" ([\"\\/bfnrt] | {_CODE} | {_PAIR}))'


class PatternMarks:
    """The patterns of one schema, each with the mark that stands for it."""

    def __init__(self, schema: Any) -> None:
        self._rules: dict[str, str] = {}
        self._marks: dict[str, str] = {}
        self.schema = self._marked(schema)

    def mended(self, grammar: str) -> str:
        """Return the grammar of the marked schema with the patterns in it, and with bounded numbers."""
        return "\n".join(map(self._mended_rule, grammar.split("\n")))

    def _mended_rule(self, line: str) -> str:
        if (found := _MARKED.match(line)) and found[2] in self._rules:
            return f"{found[1]}Regex({json.dumps(self._rules[found[2]], ensure_ascii=False)}, json_string=false)"
        return _with_short_numbers(line.replace(_CHARACTER, _ANY_CHARACTER))

    def _marked(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        marked = dict(schema)
        if isinstance(schema.get("pattern"), str):
            marked["pattern"] = self._mark(schema["pattern"])
        for key in _MAPS:
            if isinstance(schema.get(key), dict):
                marked[key] = {
                    self._mark(name) if key == "patternProperties" else name: self._marked(each)
                    for name, each in schema[key].items()
                }
        for key in _LISTS:
            if isinstance(schema.get(key), list):
                marked[key] = [self._marked(each) for each in schema[key]]
        for key in _SINGLES:
            if key in schema:
                marked[key] = self._marked(schema[key])
        return marked

    def _mark(self, pattern: str) -> str:
        if pattern not in self._marks:
            mark = self._marks[pattern] = f"pattern{len(self._marks)}"
            self._rules[mark], _ = in_json(pattern)
        return self._marks[pattern]


def _with_short_numbers(line: str) -> str:
    if not line.startswith(("basic_integer", "basic_number")):
        return line
    line = line.replace("[0-9]*", f"[0-9]{{0,{DIGITS - 1}}}")
    return line.replace("basic_number_digits{1, -1}", f"basic_number_digits{{1, {DIGITS}}}")
