"""Values that an operator writes into a variable: a text comes in, a value or a BadRequest goes out.

The messages begin in lower case: the caller puts the variable's name and the text in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..errors import BadRequest

_SWITCH = {"0": False, "false": False, "1": True, "true": True}
# Ollama reports a semantic version (https://semver.org): 0.33.0, 0.33.0-rc1.
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*")


def parse_count(text: str) -> int:
    """Return a whole number, 0 or more. It fits into 64 bits, which is what the queue can carry."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) >= 2**63:
        raise BadRequest("not a whole number, 0 or more")
    return int(text)


def parse_seconds(text: str) -> float:
    """Return a number of seconds, 0 or more."""
    try:
        seconds = msgspec.json.decode(text.encode(), type=float)
    except msgspec.MsgspecError:
        raise BadRequest("not a number of seconds") from None
    if seconds < 0:
        raise BadRequest("a number of seconds must not be negative")
    return seconds


def parse_positive_seconds(text: str) -> float:
    """Return a number of seconds, more than 0."""
    seconds = parse_seconds(text)
    if seconds == 0:
        raise BadRequest("it must be more than 0 seconds")
    return seconds


def parse_switch(text: str) -> bool:
    """Return whether the text is 1 or true; 0 and false are the other values."""
    if text not in _SWITCH:
        raise BadRequest("not 0 or 1")
    return _SWITCH[text]


def parse_json_object(text: str) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BadRequest(f"not a JSON object: {error}") from None


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts these texts."""

    def parse(text: str) -> str:
        if text not in choices:
            raise BadRequest(f"not one of {', '.join(choices)}")
        return text

    return parse


def parse_url(text: str) -> str | None:
    """Return an HTTP URL with its host, or None for an empty text."""
    if not text:
        return None
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port)
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", text):
        raise BadRequest("not a URL such as http://127.0.0.1:4318/v1/traces")
    return text


def parse_version(text: str) -> str:
    """Return a version as Ollama reports it."""
    if not _VERSION.fullmatch(text):
        raise BadRequest("not a version such as 0.33.0")
    return text


def parse_path_prefix(text: str) -> str:
    """Return a path to put routes under, or an empty text."""
    if not _PATH_PREFIX.fullmatch(text):
        raise BadRequest("not a prefix such as /llm, without a slash at its end")
    return text


def parse_origins(text: str) -> tuple[str, ...]:
    """Return the origins of web pages in a comma list; in each, `*` may stand for any text."""
    origins = tuple(origin.rstrip("/") for origin in _listed(text))
    for origin in origins:
        if not re.fullmatch(r"\*|[^\s/]+://[^\s/]*", origin) or origin.count("*") > 1:
            raise BadRequest(f"{origin} is not an origin such as https://chat.example.com, with one * at the most")
    return origins


def parse_host_names(text: str) -> tuple[str, ...]:
    """Return the host names in a comma list, in lower case; `*` is every name."""
    names = tuple(name.lower() for name in _listed(text))
    for name in names:
        if name != "*" and not _HOST_NAME.fullmatch(name):
            raise BadRequest(f"{name} is not a host name such as llm.example.com, without scheme, port and path")
    return names


def _listed(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]
