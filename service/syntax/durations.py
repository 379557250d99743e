"""`keep_alive`: how long an idle model stays loaded, as Ollama lets it be written (`api/types.go`, Duration)."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..errors import BadRequest

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Go takes any number of terms, each of which costs memory here; no duration needs so many.
_MAX_CHARACTERS = 1_000
_WHOLE = re.compile(r"-?[0-9]{1,15}\Z")
_TERM = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def parse_keep_alive(value: Any) -> float | None:
    """Return seconds; `math.inf` for a model that stays loaded, None for the server's default. Raises BadRequest.

    A number is in seconds; a string is a duration as Go writes it (`time.ParseDuration`): "5m", "1h30m", ".5s", "-1m".
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        kind = {bool: "bool", list: "[]interface {}"}.get(type(value), "map[string]interface {}")
        raise BadRequest(f"keep_alive: Unsupported type: '{kind}'")
    seconds = _parse_duration(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def parse_server_keep_alive(text: str) -> float:
    """Return the same for the server's setting, in which a whole number is in seconds, as in OLLAMA_KEEP_ALIVE."""
    value = int(text) if _WHOLE.match(text) else text
    seconds = parse_keep_alive(value)
    assert seconds is not None
    return seconds


def _parse_duration(text: str) -> float:
    if len(text) > _MAX_CHARACTERS:
        raise BadRequest(f"time: invalid duration {_quote(text[:_MAX_CHARACTERS])}")
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0.0
    terms = _TERM.findall(body)
    if not body or "".join(number + unit for number, unit in terms) != body:
        raise BadRequest(f"time: invalid duration {_quote(text)}")
    seconds = 0.0
    for number, unit in terms:
        if not unit:
            raise BadRequest(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS:
            raise BadRequest(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        seconds += float(number) * _UNITS[unit]
    return -seconds if text[0] == "-" else seconds


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
