"""Turns a regular expression of a client's into one that xgrammar keeps to inside a JSON string.

By itself, xgrammar writes a quote or a backslash into the string as it is, and it takes `(XY+)?` without X.
The syntax is ECMA-262's, as JSON Schema has it. A pattern without anchors is matched by whole texts, too: any text
around the match would fit, but nobody wants it.
"""

from __future__ import annotations

import re
from typing import NoReturn

from .character_sets import Characters, complement, matching, single, union

MAX_DEPTH = 50
MAX_CHARACTERS = 50_000
# xgrammar fails at an expression that it must repeat more often.
MAX_TIMES = 128

_DIGITS = union([(0x30, 0x39)])
_WORD = union([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
_BLANKS = union([(0x09, 0x0D), (0x20, 0x20)])
# Of Unicode, too. None of them is generated for \s, and none for \S.
_ALL_BLANKS = union(
    [*_BLANKS, *((code, code) for code in (0x85, 0xA0, 0x1680, 0x202F, 0x205F, 0x3000, 0xFEFF)), (0x2000, 0x200A),
     (0x2028, 0x2029), (0x1C, 0x1F)]
)  # fmt: skip
_NEW_LINES = union([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)])
_CLASSES = {
    "d": _DIGITS, "D": complement(_DIGITS), "w": _WORD, "W": complement(_WORD), "s": _BLANKS,
    "S": complement(_ALL_BLANKS),
}  # fmt: skip
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0}
_HEXADECIMAL = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|c([A-Za-z])")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_TIMES = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_GROUP = re.compile(r"\?(:|P?<[A-Za-z_$][\w$]*>|<?[=!])")


class PatternError(ValueError):
    """A pattern that no grammar expresses. The message says why, and where in the pattern."""


def in_json(pattern: str) -> tuple[str, bool]:
    """Return an expression of the pattern's matches as JSON escapes them, and whether all of it is enforced.

    Lookarounds are not enforced. Raises PatternError.
    """
    reader = _Reader(pattern)
    return reader.whole(), reader.is_enforced


class _Reader:
    """Reads one pattern from its start to its end."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        # Whether an anchor has ended the text on the way to here.
        self._is_over = False
        self.is_enforced = True

    def whole(self) -> str:
        """Return the expression of the whole pattern."""
        expression = self._alternatives(is_first=True)
        if self._at < len(self._pattern):
            self._fail("a parenthesis has no opening one")
        return expression

    def _alternatives(self, is_first: bool) -> str:
        branches: list[str] = []
        is_over = False
        while not branches or self._taken("|"):
            self._is_over = False
            branches.append(self._sequence(is_first))
            is_over = is_over or self._is_over
        self._is_over = is_over
        return f"({'|'.join(branches)})"

    def _sequence(self, is_first: bool) -> str:
        parts: list[str] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            if self._taken("^", r"\A"):
                if parts or not is_first:
                    self._fail("an anchor for the start has something before it")
            elif self._taken("$", r"\Z", r"\z"):
                self._is_over = True
            elif self._is_over:
                self._fail("an anchor for the end has something behind it")
            elif expression := self._repeated(self._atom(is_first and not parts)):
                parts.append(expression)
        return "".join(parts)

    def _atom(self, is_first: bool) -> str:
        """Return the expression of a group or of one character; empty for what is not enforced."""
        if self._taken("("):
            return self._group(is_first)
        if self._taken("["):
            return self._matching(self._class())
        if self._taken("."):
            return self._matching(complement(_NEW_LINES))
        if self._pattern[self._at] in "*+?" or _TIMES.match(self._pattern, self._at):
            self._fail("there is nothing to repeat")
        characters = self._escape() if self._taken("\\") else single(self._next())
        return self._matching(characters)

    def _group(self, is_first: bool) -> str:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"groups are nested more than {MAX_DEPTH} deep")
        kind = _GROUP.match(self._pattern, self._at)
        if kind is None and self._pattern.startswith("?", self._at):
            self._fail("this kind of group is not supported")
        self._at = kind.end() if kind else self._at
        is_lookaround = kind is not None and kind[1] in ("=", "!", "<=", "<!")
        was_over = self._is_over
        expression = self._alternatives(is_first or is_lookaround)
        if not self._taken(")"):
            self._fail("a parenthesis has no closing one")
        self._depth -= 1
        if is_lookaround:
            self.is_enforced, self._is_over = False, was_over
        return "" if is_lookaround else expression

    def _repeated(self, expression: str) -> str:
        if self._taken("*"):
            repeated = f"{expression}*"
        elif self._taken("+"):
            repeated = f"{expression}+"
        elif self._taken("?"):
            repeated = f"{expression}{{0,1}}"
        elif found := _TIMES.match(self._pattern, self._at):
            self._at = found.end()
            repeated = self._times(expression, *found.groups())
        else:
            return expression
        # A lazy quantifier matches the same texts.
        self._taken("?")
        if len(repeated) > MAX_CHARACTERS:
            self._fail("the pattern is too long where its repetitions are written out")
        return repeated if expression else ""

    def _times(self, expression: str, least: str, comma: str, most: str) -> str:
        if not least or (most and int(most) < int(least)):
            self._fail("a repetition has no lower bound, or one above the upper bound")
        if not comma or most:
            return _between(expression, int(least), int(most or least))
        # xgrammar takes `(X){2,}` for more than it is where X ends with a repetition.
        more = int(least) > 1
        return f"{_between(expression, int(least), int(least))}{expression}*" if more else expression + "*+"[int(least)]

    def _class(self) -> Characters:
        """Return the characters of a class, whose opening bracket has been read."""
        is_negated = self._taken("^")
        ranges: Characters = []
        while not self._taken("]"):
            low = self._member()
            # A hyphen at the end is one, and so is one beside a class such as \w.
            if self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at):
                self._at += 1
                high = self._member()
                if _is_single(low) and _is_single(high):
                    if low[0][0] > high[0][0]:
                        self._fail("a range ends before it begins")
                    ranges.append((low[0][0], high[0][0]))
                else:
                    ranges += [*low, (0x2D, 0x2D), *high]
            else:
                ranges += low
        return complement(union(ranges)) if is_negated else union(ranges)

    def _member(self) -> Characters:
        if self._taken(r"\b"):
            return single(0x08)
        return self._escape() if self._taken("\\") else single(self._next())

    def _escape(self) -> Characters:
        """Return what an escape stands for, whose backslash has been read."""
        if found := _HEXADECIMAL.match(self._pattern, self._at):
            self._at = found.end()
            return single(self._code(found))
        letter = chr(self._next())
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _CONTROLS:
            return single(_CONTROLS[letter])
        if letter.isalnum():
            self._fail(f"\\{letter} is not supported")
        return single(ord(letter))

    def _code(self, found: re.Match[str]) -> int:
        if found[4]:
            return ord(found[4]) % 32
        code = int(found[1] or found[2] or found[3], 16)
        if 0xD800 <= code < 0xDC00 and (low := _LOW_SURROGATE.match(self._pattern, self._at)):
            self._at = low.end()
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if code > 0x10FFFF:
            self._fail("there is no such character")
        return code

    def _matching(self, characters: Characters) -> str:
        return matching(characters) or self._fail("a class or an escape has no character")

    def _taken(self, *texts: str) -> bool:
        for text in texts:
            if self._pattern.startswith(text, self._at):
                self._at += len(text)
                return True
        return False

    def _next(self) -> int:
        if self._at >= len(self._pattern):
            self._fail("the pattern ends too early")
        self._at += 1
        return ord(self._pattern[self._at - 1])

    def _fail(self, reason: str) -> NoReturn:
        raise PatternError(f"{reason}, at character {self._at} of the pattern")


def _between(expression: str, least: int, most: int) -> str:
    """Return a repetition in parts that xgrammar takes."""
    parts: list[str] = []
    while not parts or most:
        few, many = min(least, MAX_TIMES), min(most, MAX_TIMES)
        parts.append(f"{expression}{{{few},{many}}}")
        least, most = least - few, most - many
    return "".join(parts)


def _is_single(characters: Characters) -> bool:
    return len(characters) == 1 and characters[0][0] == characters[0][1]
