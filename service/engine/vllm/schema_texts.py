"""Writes the keywords of a text in a JSON schema as xgrammar enforces them: `format`, `pattern` and the lengths.

xgrammar enforces one of the three at a time. Of a format and a pattern the pattern holds: generators that write
both, as zod does, repeat the format in the pattern.
"""

from __future__ import annotations

import re
from typing import Any

from .schema_bounds import MAX_REPETITION
from .schema_reports import report

# A longer text or list does not fit most contexts, so that a higher bound is not enforced.
MAX_LENGTH = 10_000

FORMATS = {
    "email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference",
    "uri-template", "json-pointer", "relative-json-pointer",
}  # fmt: skip
# RFC 3339, without leap seconds, which most clients can't read, and with at most nine digits behind the second.
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26]|0[48])00)"
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_DATE = f"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_LOCAL = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# RFC 3339, appendix A.
_AMOUNT = "[0-9]{1,9}"
_CLOCK = f"T({_AMOUNT}H({_AMOUNT}M({_AMOUNT}S)?)?|{_AMOUNT}M({_AMOUNT}S)?|{_AMOUNT}S)"
_PERIOD = f"({_AMOUNT}D|{_AMOUNT}M({_AMOUNT}D)?|{_AMOUNT}Y({_AMOUNT}M({_AMOUNT}D)?)?)"
_POINTER = "(/([^~/]|~[01])*)*"
# In place of xgrammar's own: days go wrong there, digits go on, bytes begin with 0, and quotes go without an escape.
_PATTERNS = {
    "time": f"^{_TIME}$", "date": f"^{_DATE}$", "date-time": f"^{_DATE}T{_TIME}$",
    "duration": f"^P({_PERIOD}({_CLOCK})?|{_CLOCK}|{_AMOUNT}W)$",
    "ipv4": rf"^{_BYTE}(\.{_BYTE}){{3}}$",
    "email": rf"^{_LOCAL}(\.{_LOCAL})*@{_LABEL}(\.{_LABEL})*$", "json-pointer": f"^{_POINTER}$",
    "relative-json-pointer": f"^(0|[1-9][0-9]{{0,8}})(#|{_POINTER})$",
}  # fmt: skip
# For each international format the one that holds in its place.
IN_ASCII = {"idn-email": "email", "idn-hostname": "hostname", "iri": "uri", "iri-reference": "uri-reference"}
# A character class or an escape such as \w, and its repetition.
_REPEATED = re.compile(r"\^?(\[(?:\\.|[^\]\\])+\]|\\[dwsDWS]|\.)(?:([*+])|\{([0-9]+)(,?)([0-9]*)\})\$?")


def settle_text(schema: dict[str, Any]) -> None:
    """Change the keywords of a text to those that xgrammar enforces, and report what it does not."""
    named_format = schema.get("format")
    if "pattern" in schema:
        schema.pop("format", None)
        _bound_pattern(schema)
    elif named_format in IN_ASCII:
        schema["format"] = IN_ASCII[named_format]
    elif isinstance(named_format, str) and named_format not in FORMATS:
        report(f"format {named_format[:40]}")
        del schema["format"]
    if (pattern := _PATTERNS.get(schema.get("format", ""))) is not None:
        schema["pattern"] = pattern
        del schema["format"]
    if "pattern" in schema or "format" in schema:
        for key in ("minLength", "maxLength"):
            if key in schema:
                report(key)
                del schema[key]


def _bound_pattern(schema: dict[str, Any]) -> None:
    """Write the lengths beside a pattern that repeats one character class as its repetition."""
    found = _REPEATED.fullmatch(schema["pattern"])
    least, most = schema.get("minLength", 0), schema.get("maxLength", MAX_LENGTH)
    if found is None or ("minLength" not in schema and "maxLength" not in schema):
        return
    characters, sign, low, comma, high = found.groups()
    least = max(least, int(low[:9]) if low else int(sign == "+"))
    if high or (low and not comma):
        most = min(most, int((high or low)[:9]))
    if least <= most <= MAX_REPETITION or (most == MAX_LENGTH and least <= MAX_REPETITION):
        schema["pattern"] = f"^{characters}{{{least},{most if most != MAX_LENGTH else ''}}}$"
        schema.pop("minLength", None)
        schema.pop("maxLength", None)
