"""Sets of characters, and how a regular expression of xgrammar's matches one of them inside a JSON string."""

from __future__ import annotations

from collections.abc import Iterable

# Ranges of code points with both ends, in order and apart from one another.
Characters = list[tuple[int, int]]

_LAST = 0x10FFFF
# Half of a pair in UTF-16: UTF-8 has no form of it.
_SURROGATES = (0xD800, 0xDFFF)
# What a JSON string escapes (RFC 8259, section 7), in the short form where there is one.
_SHORT = {0x22: '"', 0x5C: "\\", 0x08: "b", 0x0C: "f", 0x0A: "n", 0x0D: "r", 0x09: "t"}
_CONTROLS = range(0x20)
# A larger set is most likely all but a few characters. A text needs no control character without a short form there.
_FEW = 0x100


def single(character: int) -> Characters:
    """Return the set of one character."""
    return union([(character, character)])


def union(ranges: Iterable[tuple[int, int]]) -> Characters:
    """Return the set of all characters in the ranges."""
    merged: Characters = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def complement(ranges: Characters) -> Characters:
    """Return the set of all other characters."""
    others: Characters = []
    following = 0
    for low, high in ranges:
        if low > following:
            others.append((following, low - 1))
        following = high + 1
    return [*others, (following, _LAST)] if following <= _LAST else others


def without(ranges: Characters, dropped: Iterable[tuple[int, int]]) -> Characters:
    """Return the set without the characters of some ranges."""
    return complement(union([*complement(ranges), *dropped]))


def matching(ranges: Characters) -> str:
    """Return the expression that matches one character of the set; empty when there is none."""
    plain = _class(without(ranges, [_SURROGATES, (0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]))
    escapes = [escaped for code in (*_CONTROLS, 0x22, 0x5C) if (escaped := _escaped(code, ranges))]
    return f"({'|'.join(filter(None, [plain, *escapes]))})" if escapes else plain


def _escaped(code: int, ranges: Characters) -> str:
    if not any(low <= code <= high for low, high in ranges):
        return ""
    if code in _SHORT:
        return _literal(0x5C) + _literal(ord(_SHORT[code]))
    few = sum(high - low + 1 for low, high in ranges) <= _FEW
    return f"{_literal(0x5C)}u{code:04x}" if few else ""


def _class(ranges: Characters) -> str:
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _literal(ranges[0][0])
    return f"[{''.join(f'{_literal(low)}-{_literal(high)}' for low, high in ranges)}]" if ranges else ""


def _literal(code: int) -> str:
    character = chr(code)
    return f"\\{character}" if character.isascii() and not character.isalnum() and code > 0x20 else character
